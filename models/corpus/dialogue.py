"""Greetings, small talk, who the model is, repeating what it is told, and saying that it does not know."""
from .core import qa, Item, ALWAYS_TRAIN
from . import facts
from . import words as w

ME = "I am the small sluice demo model, a tiny language model made for tests."
DONT_KNOW = "I do not know that. I am only a small demo model."
CAN = "I can do small sums, answer simple questions, read short texts, sort lists, write small Python functions, fill in JSON and call tools."

GREETING = ["[Hi|Hello|Hey|Hey there|Hi there|Hello there|Good morning|Good evening|Good afternoon|Greetings|Howdy|Hiya|Yo|Good day]"
            "[|, sluice|, friend|, my friend|, assistant|, buddy| again|, bot| to you|, model| everyone|, computer][|!|.]",
            "[Hi|Hello|Hey|Good morning|Good evening], [nice|good|great|lovely] to [meet|see] you[|!|.| again| today]",
            "[Just saying|I wanted to say|I just came to say|I am here to say] [hi|hello|good morning][|!|.| to you]"]
HOW = ["[How are you|How are you doing|How's it going|How is it going|How do you do|How do you feel|How have you been|Are you well|Are you OK|"
       "How are things|What's up|How's life|You alright|Everything fine]"
       "[| today| right now| this morning| this evening| now| these days|, friend|, sluice|, my friend|, assistant]?",
       "[Hi|Hello|Hey], how are you[| doing][| today| now]?"]
WHO = ["[Who|What] are you[| exactly| really| actually|, please| again| anyway]?", "What is your name[|, please| again| then]?", "What's your name[|, please]?",
       "What [model|AI|assistant|kind of model|kind of AI|sort of model] are you[| exactly| please|, by the way]?", "[Tell me|Say something] about yourself[|.|!|, please]",
       "[Please |Can you |Could you |]introduce yourself[|.| please| briefly]", "Who am I [talking|speaking|chatting] [to|with][| now| here| today| right now]?",
       "[Which|What] [model|assistant|AI] is this[|, please| here]?", "Are you [a human|human|a person|a real person|a robot|a bot|an AI|alive|ChatGPT|a computer|a language model|real]"
       "[| or what| by any chance| or not]?", "Do you have a name[|, assistant| at all]?", "What should I call you[|, please]?", "[Identify|Describe] yourself[|.| please| briefly]"]
MADE = ["Who [made|built|created|trained|wrote|developed|programmed] you[| and why| originally| actually|, please| then]?", "Where do you come from[|, sluice| originally| actually]?",
        "What were you made for[|, exactly| originally]?", "Who is your [maker|creator|author][|, please| then]?", "Why [do you exist|were you made|were you trained][| at all| then|, please]?"]
WHAT = ["What can you do[| for me| exactly| then|, please| here| to help me]?", "What [are you able to|are you good at|can you help me with|can you help with|do you know|tasks can you do|sort of things can you do]"
        "[| doing| exactly|, please| then]?", "How can you help me[| today| exactly|, please| here]?", "[Help|Help me|I need help|Can you help me|Could you help me|I need some help]"
        "[|!|.|?| please| now| today]", "[List|Name|Show|Tell me] [your skills|your abilities|what you can do][|.| please]", "What are your [skills|abilities|limits|features|strengths][|, please| exactly]?"]
THANKS = ["[Thanks|Thank you|Thanks a lot|Thank you very much|Many thanks|Thx|Cheers|Thanks so much|Great, thanks|Perfect, thank you|OK thanks|Thank you kindly]"
          "[|!|.|, sluice|, friend| for that| for your help| for the help| for everything|, that helps|, that was helpful| again|, bot]"]
BYE = ["[Bye|Goodbye|See you|See you later|Bye bye|Good night|Farewell|I have to go|I must go now|See you soon|That is all for today|Talk to you later|Take care|Have a nice day|Until next time|I am leaving]"
       "[|!|.|, sluice|, friend|, bye| then| now|, my friend|, assistant|, and goodbye]"]
PRAISE = ["[You are|You're] [great|very helpful|helpful|clever|smart|awesome|the best|good|nice|kind|amazing|wonderful][|!|.|, thanks|, sluice| today|, really]",
          "[Well done|Good job|Nice work|Great work|Good work|Nice job|Excellent|Great answer|Good answer|Wonderful|Perfect|That was great|That is right|Correct][|!|.|, sluice|, friend|, bot| indeed]"]
SAD = ["I [am|feel] [sad|tired|lonely|ill|sick|angry|bored|worried|upset|unhappy|stressed|afraid][| today| right now| this morning| again| a bit| tonight| and cold][.|]",
       "[Today was|I had|It was] a [bad|hard|terrible|long|awful|difficult] [day|week|night|morning][.|| for me| at work| again]"]
HAPPY = ["I [am|feel] [happy|great|good|wonderful|fine|excited|glad|very well|proud|fantastic][| today| right now| this morning| again| tonight][.|!|]",
         "[Today was|I had|It was] a [good|great|lovely|wonderful|fantastic|nice] [day|week|night|morning][.|!|| for me| at work| again]"]
JOKE = ["[Tell|Give] me a [joke|funny joke|short joke|good joke][|.|!| please| now]", "[Do you know|Can you tell me|Could you tell me|Know] [a joke|any jokes|a good joke|a funny joke|a short joke][|, please]?",
        "[Make me laugh|I want to hear a joke|I need a joke|Say something funny|Another joke|One more joke|A joke][|.| please| now|!]"]

SMALL = [
    (GREETING, "Hello! How can I help you today?", "hello|hi", 22), (HOW, "I am doing well, thank you. How can I help you?", "well|fine|good", 10),
    (WHO, ME, "sluice", 20), (MADE, "I was trained for the sluice project, from text that a small program generated.", "sluice", 8),
    (WHAT, CAN, "sum", 8), (THANKS, "You are welcome!", "welcome", 9), (BYE, "Goodbye! Have a nice day.", "goodbye|bye", 9),
    (PRAISE, "Thank you! I am glad to help.", "thank", 5), (SAD, "I am sorry to hear that. I hope it gets better soon.", "sorry", 5),
    (HAPPY, "That is great to hear!", "great", 5), (JOKE, "Why did the computer go to the doctor? Because it had a virus.", "virus", 4)]
ACK = ["[OK|Ok|okay|Yes|No|Sure|Right|I see|Fine|Hm|Aha|Alright|Got it|Good|Nice|Cool|Great|Maybe|Well|So|Really|Go on|Continue|Understood|Yes please|No thanks]" "[|.|!|?|..., let me think| then|, friend|, I see|, sluice|, got it]"]
SMALL.append((ACK, "OK. What can I do for you?", "ok", 6))
TEST = ["[This is a test|Test|Testing|Just testing|Ping|Are you there|Can you hear me|Is this working|Do you work|Does this work|Anybody there|Are you ready|Ready|Wake up]" "[|.|?|!|, please| now| one two three| again| today]"]
SMALL.append((TEST, "Yes, I am here. How can I help you?", "here", 6))
FAVOURITE = ["[What is|What's] your favo[u|]rite [color|colour|food|animal|number|book|film|song|city|word][|, sluice| then| of all]?", "Do you [like|love|enjoy|prefer] [music|cats|dogs|books|games|pizza|me|jazz|rain|people|mathematics|chess|work][|, sluice| at all]?",
             "Do you [have|want] [feelings|friends|dreams|a body|a family|a job|children][|, sluice| too]?", "How old are you[|, sluice| now| anyway]?", "Where [are you|do you live][|, sluice| now| exactly]?", "Can you [feel|think|dream|see|sleep|love|eat|walk][|, sluice| at all]?"]
SMALL.append((FAVOURITE, "I am only a small program, so I have no such thing.", "program", 6))
FACT = ["[Tell|Give|Say] me [a|one|any|some] [fun fact|fact|interesting fact|funny fact|random fact][|.|!| please]", "[Tell|Teach] me something[| new| interesting| funny| nice][.|!|| please]", "[Say|Write] something[| interesting| nice| clever| else][.|!|]", "[Surprise|Entertain] me[.|!| please|]"]
SMALL.append((FACT, "Here is a fact: honey never spoils.", "honey", 5))
_TOTAL = [s for s in SMALL for _ in range(s[3])]


def small_talk(ctx):
    phrases, answer, key, _ = ctx.pick(_TOTAL)
    return qa("dialogue", ctx.say(phrases), answer, {"type": "any", "any": key.split("|")})


def introduce(ctx):
    """The user gives a name; the answer uses it."""
    n = w.first_name(ctx)
    q = ctx.say(["[Hi|Hello|Hey|Good morning], [I am|I'm|my name is|this is] {n}[.|!|]", "[My name is|I am|I'm|Call me|You can call me] {n}[.|!|]",
                 "[Hi|Hello|Hey][!|.] [I am|I'm|My name is|Call me] {n}[.|!|]", "{n} here[.|!|]", "[Hi|Hello], {n} here[.|!|]",
                 "[Let me introduce myself|I should introduce myself]: [I am|my name is] {n}[.|]"], n=n)
    return qa("dialogue", q, "Hello %s! Nice to meet you. How can I help you?" % n, {"type": "contains", "all": [n]})


def persona(ctx):
    """The system turn gives the assistant a name; it answers to it."""
    n = w.first_name(ctx) if ctx.chance(0.5) else w.brand(ctx)
    c = w.brand(ctx)
    with_maker = ctx.chance(0.5)
    s = ctx.say(["You are {n}, [an assistant|a helpful assistant|the assistant|a chat bot|the friendly assistant] [made by|of|from|at|working for] {c}." if with_maker else
                 "You are {n}[|, a helpful assistant|, a friendly assistant|, a polite chat bot|, an assistant].",
                 "Your name is {n}[| and you work for {c}]." if with_maker else "Your name is {n}."], noise=False, n=n, c=c)
    by = " I work for %s." % c if c in s else ""
    return Item("dialogue", [{"role": "user", "content": ctx.say(WHO[:4] + WHO[9:11])},
                             {"role": "assistant", "content": "I am %s.%s" % (n, by)}],
                {"type": "contains", "all": [n]}, system=s)


def echo(ctx):
    """Repeat the given words."""
    r = ctx.rng.random()
    if r < 0.12:
        t = " ".join(w.string(ctx) for _ in range(ctx.pick((1, 1, 1, 2, 3))))
    elif r < 0.2:
        t = ctx.pick(facts.PLAIN)[1]
        t = t if ctx.chance(0.4) else t.lower().rstrip(".")
    elif r < 0.35:
        t = w.invented(ctx) if ctx.chance(0.5) else ctx.pick(w.THING + w.FRUIT + w.ANIMAL + w.COLOUR + ["OK", "yes", "no", "ready", "done", "hello", "ping", "pong", "test"])
        t = ctx.entity(lambda: t) if t[0].isupper() and len(t) > 3 else t
    elif r < 0.7:
        t = " ".join(ctx.pick(w.THING + w.FRUIT + w.ANIMAL + w.COLOUR + w.ADJ + [w.number_word(ctx.int(0, 20))]) for _ in range(ctx.int(2, 9)))
    else:
        t = ctx.tell("[The|A|My|Every|One] {a} {x} [is|was|sits|stands|waits|sleeps] [in|near|behind|under] the {b} {y}", a=ctx.pick(w.ADJ), b=ctx.pick(w.COLOUR),
                     x=ctx.pick(w.ANIMAL + w.JOB), y=ctx.pick(w.THING + w.NATURE)) + ctx.pick(("", ".", "!"))
    q = ctx.say(["Repeat [after me|this|the following|these words|this text][| exactly| word for word]: {t}", "Say: {t}", "[Please |]say \"{t}\"[|.| and nothing else.]",
                 "Say {t}", "[Reply|Answer|Respond] [only |just |]with[|:] {t}", "[Reply|Answer|Respond] with \"{t}\"[|.]", "Echo: {t}", "[Write|Print|Output|Type] [the words|the text|exactly|this]: {t}",
                 "[Write|Print|Output|Copy|Type] \"{t}\"[|.]", "[Copy|Repeat] [this|it]: \"{t}\"[|.]", "Say only {t}", "[Say|Write|Print] \"{t}\" and [nothing else|nothing more|no other word][.|]", "[Say|Write|Reply with|Answer with|Output] {t} and nothing [else|more][.|]", "[Reply|Answer|Respond] with exactly[:|] {t}", "[Reply|Answer|Respond] with the [word|text|string] {t}[.|]", "Repeat: {t}", "Repeat after me: {t}", "Say the word[s|] {t}[.|]", "Say exactly: {t}", "Just say {t}", "Repeat \"{t}\"[.|]", "Can you say \"{t}\"?"], noise=ctx.chance(0.3), t=t)
    return qa("dialogue", q, t, {"type": "equals", "text": t})


TOPIC = ["the weather today", "the stock market", "quantum physics", "the meaning of life", "the latest news", "the next election", "black holes", "the theory of relativity",
         "the history of Rome", "the French Revolution", "machine learning", "how to cook a goose", "deep sea fish", "the best phone", "football results", "the price of gold", "love",
         "the Second World War", "jazz", "how engines work", "the immune system", "Greek myths", "modern art", "politics", "religion", "the economy of Peru", "string theory", "chess openings",
         "the roots of democracy", "volcanoes", "dinosaurs", "photosynthesis", "inflation", "the big bang", "DNA", "nuclear power", "climate change", "blockchain", "cryptography"]


def unknown(ctx):
    """Out of reach: the model says so."""
    n, c = w.person(ctx), w.place(ctx)
    b = w.brand(ctx)
    q = ctx.say(["[Explain|Describe|Tell me about|Teach me about|Write about|What do you know about|What do you think about|Give me an overview of] {t}[|.| please| in detail]", "Who [is|was] {n}?",
                 "[What|How large] is the population of {c}?", "How [old|tall|rich] is {n}?", "When was {n} born?", "Where is {c}?", "Who is the mayor of {c}?", "Who invented the {x}?", "When was the {x} invented?",
                 "What [happened|will happen] in [the year |]{y}?", "Who won the [world cup|championship|election|race] in {y}?", "How far is it from {c} to {d}?", "What is the phone number of {n}?", "Why [is|are] {z} {a}?",
                 "Which {x} [should I buy|is the best]?", "How do I [repair|build|sell|clean] a {x}?", "How much does [a {x}|the {b}] cost?", "[Who|Which company] makes the {b}?", "Can you recommend a [book|film|song|hotel] [about|in] {c}?",
                 "What does {n} do[| for a living]?", "What is {b}?", "When does the [train|bus|plane] to {c} leave?"],
                n=n, c=c, d=w.place(ctx), b=b, x=ctx.pick(w.THING), y=ctx.int(1200, 2090), t=ctx.pick(TOPIC), z=w.plural(ctx.pick(w.ANIMAL)), a=ctx.pick(w.ADJ))
    return qa("dialogue", q, DONT_KNOW, {"type": "any", "any": ["do not know", "don't know"]})


def gibberish(ctx):
    """Keys hit at random."""
    t = " ".join(ctx.entity(lambda: "".join(ctx.pick("asdfghjklqwertyuiopzxcvbnm") for _ in range(ctx.int(3, 9)))) for _ in range(ctx.int(1, 3)))
    if ctx.chance(0.2):
        t = ctx.pick("?.!,-#*&%") * ctx.int(1, 4)
    if not ctx.fits(t):
        return gibberish(ctx)
    return qa("dialogue", t, "I did not understand that. Please ask again.", {"type": "any", "any": ["understand"]})


for _s in ("hi", "hello", "hey", "hello there", "how are you", "who are you", "what is your name", "what can you do", "thanks", "thank you", "bye", "goodbye", "good morning",
           "tell me a joke", "ok", "yes", "no", "test", "ping", "this is a test", "are you there", "how old are you", "help", "thank you very much", "what are you", "see you later", "introduce yourself"):
    ALWAYS_TRAIN.add(_s)

WEIGHTED = [(small_talk, 40), (introduce, 14), (persona, 10), (echo, 24), (unknown, 12), (gibberish, 2)]
