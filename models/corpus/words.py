"""Word pools: names, places, everyday nouns, and invented words."""

FIRST = ("Anna Ben Clara David Emma Felix Greta Henry Ida Jack Karen Leo Maria Nils Olivia Paul Quinn Rita "
         "Sam Tina Ursula Victor Wendy Xavier Yara Zoe Alice Bob Carol Dan Eva Frank George Hannah Ivan Julia "
         "Kevin Laura Martin Nora Oscar Petra Robert Sara Thomas Una Vera Walter Yusuf Zara Ahmed Bianca Carlos "
         "Diana Elena Fatima Gustav Hassan Ingrid Jonas Kenji Lena Miguel Nadia Omar Priya Ravi Sofia Tomas "
         "Viktor Wei Yuki Amir Beatriz Chen Dmitri Erik Fiona Gabriel Helga Ibrahim Jana Kofi Lucia Mei Noah "
         "Otto Paula Rosa Stefan Tara Umar Vince Willa Ximena Yasmin Zachary Adam Bella Charlie Dora Ethan Flora "
         "Gina Hugo Irene James John Kate Liam Mary Nina Peter Rachel Simon Tom Tim Lucas Mia Lily Ella Alex "
         "Maya Lisa Steve Linda Susan Michael Chris").split()

LAST = ("Berg Carter Diaz Evans Fischer Garcia Hansen Ito Jensen Keller Larsen Meyer Novak Olsen Patel Quist "
        "Rossi Silva Tanaka Ueda Vogel Weber Ziegler Adams Clark Dixon Ellis Foster Hughes "
        "Ivanov Johnson Kim Lopez Moreau Nguyen Okafor Reed Schmidt Taylor Usman Vargas Wong Yilmaz Smith "
        "Miller Jones Lee").split()

CITY = ("Paris London Berlin Rome Madrid Vienna Prague Lisbon Oslo Dublin Athens Warsaw Budapest Helsinki Tokyo "
        "Kyoto Osaka Seoul Beijing Shanghai Delhi Mumbai Cairo Nairobi Lagos Toronto Montreal Boston Chicago "
        "Denver Seattle Miami Dallas Austin Atlanta Lima Bogota Quito Santiago Sydney Melbourne Perth Auckland "
        "Munich Hamburg Zurich Geneva Milan Naples Venice Turin Barcelona Seville Porto Lyon Marseille "
        "Brussels Antwerp Amsterdam Rotterdam Copenhagen Stockholm Bergen Istanbul Ankara Dubai Doha Singapore "
        "Bangkok Hanoi Manila Jakarta Phoenix Houston Portland Oakland Detroit Boulder").split()

ANIMAL = ("cat dog horse cow sheep goat pig duck hen goose rabbit fox wolf bear lion tiger zebra camel donkey mouse "
          "rat frog toad snake lizard turtle owl eagle hawk crow parrot swan whale shark seal otter beaver deer moose "
          "monkey panda koala penguin bee ant").split()
FRUIT = "apple banana cherry grape lemon mango orange peach pear plum melon fig kiwi lime date olive berry papaya".split()
THING = ("book pen cup plate lamp chair table clock key box bag coat hat shoe shirt ring coin ball kite drum "
         "guitar piano violin phone radio camera laptop screen mouse printer bottle spoon fork knife bowl pot pan "
         "towel soap brush mirror pillow blanket candle basket ladder hammer nail rope bucket shovel rake tent "
         "map ticket letter stamp card envelope ruler eraser marker folder desk door window bicycle car truck boat "
         "train wagon sled").split()
COUNTABLE = ("eggs cookies marbles stickers candies flowers dollars cards toys balloons stones shells bottles students people cars sweets cats dogs coins stamps boxes seeds leaves trees chairs tickets photos puzzles "
             "games shoes hats bricks beads rocks crayons pencils rulers sandwiches muffins donuts cupcakes birds bees stars points euros books pages").split()
COLOUR = "red blue green yellow orange purple pink brown black white grey silver gold violet teal".split()
FOOD = ("bread rice pasta soup pizza salad cheese cake pie toast stew curry noodles pancakes sushi tacos chocolate "
        "honey yogurt popcorn").split()
JOB = ("teacher doctor nurse baker farmer driver pilot painter writer singer lawyer judge cook waiter plumber "
       "carpenter engineer chemist dentist librarian gardener sailor tailor butcher florist mechanic architect "
       "journalist photographer accountant translator programmer musician potter").split()
HOBBY = ("chess painting swimming running fishing hiking cooking reading dancing skiing sailing cycling gardening "
         "pottery photography knitting singing climbing archery juggling").split()
MONTH = ("January February March April May June July August September October November December").split()
DAY = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
NATURE = "river lake hill forest valley beach bridge garden castle tower market harbour island mountain".split()
ADJ = ("small large old new quiet bright narrow tall round heavy light soft strong young clever gentle brave "
       "curious patient cheerful lazy busy").split()
INSTRUMENT = "piano violin guitar flute drums trumpet cello harp".split()
LANGUAGE = "French German Spanish Italian Japanese Portuguese Dutch Swedish Polish Korean Greek Turkish".split()
SPORT = "football tennis basketball volleyball hockey golf rugby badminton".split()
SUBJECT = "history physics biology music art geography chemistry economics poetry philosophy".split()

NUMBER_WORD = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
               "sixteen seventeen eighteen nineteen twenty").split()
TENS = {2: "twenty", 3: "thirty", 4: "forty", 5: "fifty", 6: "sixty", 7: "seventy", 8: "eighty", 9: "ninety"}


def number_word(n):
    """English for 0..99."""
    if n <= 20:
        return NUMBER_WORD[n]
    t, u = divmod(n, 10)
    return TENS[t] + ("-" + NUMBER_WORD[u] if u else "")


def plural(noun):
    if noun == "mouse":
        return "mice"
    if noun in ("goose",):
        return "geese"
    if noun in ("sheep", "deer", "moose"):
        return noun
    if noun in ("wolf", "knife"):
        return noun.replace("fe", "f")[:-1] + "ves"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    return noun + "s"


_ONSET = ["b", "br", "c", "cl", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kl", "l", "m", "n", "p", "pr", "qu",
          "r", "s", "sh", "sk", "sl", "st", "t", "th", "tr", "v", "w", "y", "z"]
_VOWEL = ["a", "e", "i", "o", "u", "a", "e", "o", "ai", "ee", "ia", "ou"]
_CODA = ["", "", "", "n", "r", "l", "s", "m", "x", "nd", "rt", "ll", "ck", "th", "v", "k"]
_ENDING = ["", "", "", "ia", "on", "us", "a", "or", "ville", "ford", "berg", "wick", "ton", "field", "mar", "vik", "is"]


def invented(ctx, ending=True):
    """An invented word such as Torvik or Zalmeria."""
    w = ""
    for _ in range(ctx.pick((1, 2, 2, 2, 3))):
        w += ctx.pick(_ONSET) + ctx.pick(_VOWEL) + ctx.pick(_CODA)
    if ending:
        w += ctx.pick(_ENDING)
    if len(w) < 4:
        w += ctx.pick(("lan", "dor", "mis", "tek"))
    return w.capitalize()


_ACCENT = ["Zoë", "José", "François", "Jürgen", "Søren", "Łukasz", "Renée", "Óscar", "Björn", "Anaïs", "Müller"]


def string(ctx):
    """Any short string that a user may want to see again: letters, capitals, digits, a word."""
    return ctx.entity(lambda: _string(ctx))


def _string(ctx):
    r = ctx.int(0, 5)
    if r == 0:
        return "".join(ctx.pick("abcdefghijklmnopqrstuvwxyz") for _ in range(ctx.int(1, 6)))
    if r == 1:
        return "".join(ctx.pick("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(ctx.int(1, 6)))
    if r == 2:
        return invented(ctx, False).upper()
    if r == 3:
        return invented(ctx, False).lower()
    if r == 4:
        return ctx.pick(("abc", "xyz", "foo", "bar", "PONG", "PING", "OK", "YES", "NO", "DONE", "READY", "foobar", "abc123", "test", "TEST", "ok", "A", "B", "x", "la", "ha", "hello", "Hi", "banana", "echo"))
    return "".join(ctx.pick("abcdefghkmnpqrstxyz0123456789") for _ in range(ctx.int(2, 8)))


def first_name(ctx):
    """A first name, real or invented, now and then with an accent or in lower case."""
    def draw():
        r = ctx.rng.random()
        if r < 0.60:
            return ctx.pick(FIRST)
        if r < 0.62 and not ctx.held:
            return ctx.pick(_ACCENT)
        return invented(ctx, False)
    return ctx.entity(draw)


def last_name(ctx):
    return ctx.entity(lambda: ctx.pick(LAST) if ctx.chance(0.4) else invented(ctx))


def person(ctx):
    """A first name, sometimes with a last name."""
    return first_name(ctx) if ctx.chance(0.6) else first_name(ctx) + " " + last_name(ctx)


def place(ctx):
    """A real or invented town."""
    return ctx.entity(lambda: ctx.pick(CITY) if ctx.chance(0.45) else invented(ctx))


def brand(ctx):
    """An invented name for a company or product, sometimes with a model number."""
    w = ctx.entity(lambda: invented(ctx))
    r = ctx.rng.random()
    if r < 0.15:
        w += " " + str(ctx.int(2, 99))
    elif r < 0.25:
        w += "-" + str(ctx.int(2, 99))
    elif r < 0.35:
        w += " " + ctx.pick(("Pro", "Max", "Mini", "Plus", "Air"))
    return w


def code(ctx):
    """A code such as 4821 or KX-77."""
    r = ctx.rng.random()
    if r < 0.55:
        return str(ctx.int(10 ** (ctx.int(3, 6) - 1), 10 ** 6 - 1))
    letters = "".join(ctx.pick("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(ctx.int(2, 3)))
    return letters + ctx.pick(("-", "")) + str(ctx.int(10, 999))


def english_list(words):
    """a, b and c"""
    words = list(words)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
