"""The facts that the model learns by heart. They are trained on purpose and never count as held out."""

CAPITAL = dict(s.split(":") for s in (
    "France:Paris|Germany:Berlin|Italy:Rome|Spain:Madrid|Portugal:Lisbon|Austria:Vienna|Poland:Warsaw|Greece:Athens|"
    "Ireland:Dublin|Norway:Oslo|Sweden:Stockholm|Finland:Helsinki|Denmark:Copenhagen|Hungary:Budapest|Belgium:Brussels|"
    "the Netherlands:Amsterdam|Switzerland:Bern|Czechia:Prague|Croatia:Zagreb|Romania:Bucharest|Bulgaria:Sofia|"
    "Ukraine:Kyiv|Russia:Moscow|Turkey:Ankara|Egypt:Cairo|Kenya:Nairobi|Morocco:Rabat|Nigeria:Abuja|Ghana:Accra|"
    "Ethiopia:Addis Ababa|Japan:Tokyo|China:Beijing|India:New Delhi|South Korea:Seoul|Thailand:Bangkok|Vietnam:Hanoi|"
    "Indonesia:Jakarta|Iran:Tehran|Iraq:Baghdad|Israel:Jerusalem|Pakistan:Islamabad|Nepal:Kathmandu|Canada:Ottawa|"
    "the United States:Washington, D.C.|Mexico:Mexico City|Cuba:Havana|Brazil:Brasilia|Argentina:Buenos Aires|Chile:Santiago|"
    "Peru:Lima|Colombia:Bogota|Ecuador:Quito|Uruguay:Montevideo|Australia:Canberra|New Zealand:Wellington|Iceland:Reykjavik|"
    "the United Kingdom:London|England:London|Scotland:Edinburgh|Serbia:Belgrade").split("|"))

ELEMENT = dict(s.split(":") for s in (
    "hydrogen:H|helium:He|lithium:Li|carbon:C|nitrogen:N|oxygen:O|fluorine:F|neon:Ne|sodium:Na|magnesium:Mg|aluminium:Al|"
    "silicon:Si|phosphorus:P|sulfur:S|chlorine:Cl|argon:Ar|potassium:K|calcium:Ca|iron:Fe|nickel:Ni|copper:Cu|zinc:Zn|"
    "silver:Ag|tin:Sn|iodine:I|gold:Au|mercury:Hg|lead:Pb|uranium:U|platinum:Pt").split("|"))

OPPOSITE = dict(s.split(":") for s in (
    "hot:cold|big:small|up:down|left:right|fast:slow|happy:sad|light:dark|open:closed|early:late|young:old|rich:poor|"
    "hard:soft|high:low|wet:dry|full:empty|near:far|clean:dirty|strong:weak|thick:thin|true:false|good:bad|day:night|"
    "start:end|black:white|long:short|loud:quiet|easy:difficult|push:pull|inside:outside|first:last").split("|"))

# question templates -> answer sentence, terse answer
PLAIN = [
    ("[How many days [are|are there] in a week|How many days does a week have]?", "A week has 7 days.", "7"),
    ("[How many months [are|are there] in a year|How many months does a year have]?", "A year has 12 months.", "12"),
    ("[How many hours [are|are there] in a day|How many hours does a day have]?", "A day has 24 hours.", "24"),
    ("[How many minutes [are|are there] in an hour|How many minutes does an hour have]?", "An hour has 60 minutes.", "60"),
    ("[How many seconds [are|are there] in a minute|How many seconds does a minute have]?", "A minute has 60 seconds.", "60"),
    ("[How many days [are|are there] in a year|How many days does a year have]?", "A year has 365 days.", "365"),
    ("How many legs does a spider have?", "A spider has 8 legs.", "8"),
    ("How many legs does [an insect|an ant] have?", "An insect has 6 legs.", "6"),
    ("How many legs does a [dog|cat|horse] have?", "It has 4 legs.", "4"),
    ("How many sides does a triangle have?", "A triangle has 3 sides.", "3"),
    ("How many sides does a square have?", "A square has 4 sides.", "4"),
    ("How many sides does a hexagon have?", "A hexagon has 6 sides.", "6"),
    ("How many sides does a pentagon have?", "A pentagon has 5 sides.", "5"),
    ("How many continents are there[| on Earth]?", "There are 7 continents.", "7"),
    ("How many planets are [there |]in the solar system?", "There are 8 planets in the solar system.", "8"),
    ("How many letters are [there |]in the [English |]alphabet?", "The alphabet has 26 letters.", "26"),
    ("[What|Which] colou[r|r] is the sky?", "The sky is blue.", "blue"),
    ("[What|Which] color is the sky?", "The sky is blue.", "blue"),
    ("[What|Which] [color|colour] is grass?", "Grass is green.", "green"),
    ("[What|Which] [color|colour] is snow?", "Snow is white.", "white"),
    ("[What|Which] [color|colour] is a banana?", "A banana is yellow.", "yellow"),
    ("[What|Which] [color|colour] is blood?", "Blood is red.", "red"),
    ("[What|Which] [color|colour] is coal?", "Coal is black.", "black"),
    ("What [color|colour] do you get [if|when] you mix blue and yellow?", "Blue and yellow make green.", "green"),
    ("What [color|colour] do you get [if|when] you mix red and yellow?", "Red and yellow make orange.", "orange"),
    ("What [color|colour] do you get [if|when] you mix red and blue?", "Red and blue make purple.", "purple"),
    ("What [sound|noise] does a cat make?", "A cat says meow.", "meow"),
    ("What [sound|noise] does a dog make?", "A dog says woof.", "woof"),
    ("What [sound|noise] does a cow make?", "A cow says moo.", "moo"),
    ("What [sound|noise] does a duck make?", "A duck says quack.", "quack"),
    ("What [sound|noise] does a sheep make?", "A sheep says baa.", "baa"),
    ("What [is|do you call] a baby dog[| called]?", "A baby dog is called a puppy.", "puppy"),
    ("What [is|do you call] a baby cat[| called]?", "A baby cat is called a kitten.", "kitten"),
    ("What [is|do you call] a baby cow[| called]?", "A baby cow is called a calf.", "calf"),
    ("What [is|do you call] a baby sheep[| called]?", "A baby sheep is called a lamb.", "lamb"),
    ("What [is|do you call] frozen water[| called]?", "Frozen water is called ice.", "ice"),
    ("At what temperature does water boil?", "Water boils at 100 degrees Celsius.", "100"),
    ("At what temperature does water freeze?", "Water freezes at 0 degrees Celsius.", "0"),
    ("What is the chemical formula [of|for] water?", "The formula of water is H2O.", "H2O"),
    ("[What|Which] is the [largest|biggest] planet[| in the solar system]?", "Jupiter is the largest planet.", "Jupiter"),
    ("[What|Which] is the smallest planet[| in the solar system]?", "Mercury is the smallest planet.", "Mercury"),
    ("[What|Which] planet is [closest|nearest] to the sun?", "Mercury is the planet closest to the sun.", "Mercury"),
    ("[What|Which] planet is [known as |called ]the red planet?", "Mars is the red planet.", "Mars"),
    ("[What|Which] planet do we live on?", "We live on Earth.", "Earth"),
    ("[What|Which] is the [largest|biggest] ocean?", "The Pacific is the largest ocean.", "Pacific"),
    ("[What|Which] is the [highest|tallest] mountain[| in the world| on Earth]?", "Mount Everest is the highest mountain.", "Mount Everest"),
    ("[What|Which] is the [largest|biggest] animal?", "The blue whale is the largest animal.", "blue whale"),
    ("[What|Which] is the fastest land animal?", "The cheetah is the fastest land animal.", "cheetah"),
    ("What do bees make?", "Bees make honey.", "honey"),
    ("What do cows give us[| to drink]?", "Cows give us milk.", "milk"),
    ("[What|Which] is the first month of the year?", "January is the first month of the year.", "January"),
    ("[What|Which] is the last month of the year?", "December is the last month of the year.", "December"),
    ("[What|Which] is the first letter of the alphabet?", "The first letter is A.", "A"),
    ("[What|Which] is the last letter of the alphabet?", "The last letter is Z.", "Z"),
    ("Where is the Eiffel Tower?", "The Eiffel Tower is in Paris.", "Paris"),
    ("[In which city|Where] is Big Ben?", "Big Ben is in London.", "London"),
    ("Where is the Colosseum?", "The Colosseum is in Rome.", "Rome"),
    ("Where is the Statue of Liberty?", "The Statue of Liberty is in New York.", "New York"),
    ("Who was the first person on the moon?", "Neil Armstrong was the first person on the moon.", "Neil Armstrong"),
    ("Who was the first man [on the moon|to walk on the moon]?", "Neil Armstrong was the first person on the moon.", "Neil Armstrong"),
    ("What is the speed of light?", "The speed of light is about 300000 kilometres per second.", "300000"),
    ("How many bones does [the human body|a human] have?", "A human has 206 bones.", "206"),
    ("What is the largest country[| in the world]?", "Russia is the largest country.", "Russia"),
    ("What is the smallest country[| in the world]?", "Vatican City is the smallest country.", "Vatican City"),
    ("What is the capital of the world?", "The world has no capital.", "no"),
    ("How many fingers does a [hand|person's hand] have?", "A hand has 5 fingers.", "5"),
    ("How many seasons [are there|does a year have]?", "A year has 4 seasons.", "4"),
    ("How many wheels does a bicycle have?", "A bicycle has 2 wheels.", "2"),
    ("How many wheels does a car have?", "A car has 4 wheels.", "4"),
    ("How many minutes are in half an hour?", "Half an hour has 30 minutes.", "30"),
    ("How many centimetres are in a met[re|er]?", "A metre has 100 centimetres.", "100"),
    ("How many met[re|er]s are in a kilomet[re|er]?", "A kilometre has 1000 metres.", "1000"),
    ("How many grams are in a kilogram?", "A kilogram has 1000 grams.", "1000"),
    ("What is the value of pi?", "Pi is about 3.14159.", "3.14159"),
    ("What is the freezing point of water?", "Water freezes at 0 degrees Celsius.", "0"),
    ("What is the boiling point of water?", "Water boils at 100 degrees Celsius.", "100"),
    ("What [does the sun do|rises in the morning]?", "The sun rises in the morning.", "sun"),
    ("Why is the sky blue?", "The sky is blue because air scatters blue light more than red light.", "scatters"),
    ("What is the meaning of life?", "Some say that the answer is 42.", "42"),
    ("Who wrote Hamlet?", "William Shakespeare wrote Hamlet.", "William Shakespeare"),
    ("Who wrote Romeo and Juliet?", "William Shakespeare wrote Romeo and Juliet.", "William Shakespeare"),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci painted the Mona Lisa.", "Leonardo da Vinci"),
    ("What is the [hardest natural|hardest] [material|substance]?", "Diamond is the hardest natural material.", "diamond"),
    ("What gas do plants [take in|absorb|breathe in]?", "Plants take in carbon dioxide.", "carbon dioxide"),
    ("What gas do [we|people|humans] need to breathe?", "We need oxygen to breathe.", "oxygen"),
    ("What is the [largest|biggest] continent?", "Asia is the largest continent.", "Asia"),
    ("What is the [longest|largest] river in [Africa|the world]?", "The Nile is the longest river.", "Nile"),
]

LANGUAGE_OF = dict(s.split(":") for s in (
    "France:French|Germany:German|Italy:Italian|Spain:Spanish|Portugal:Portuguese|Japan:Japanese|Russia:Russian|"
    "Poland:Polish|Greece:Greek|Turkey:Turkish|Sweden:Swedish|Brazil:Portuguese|Mexico:Spanish|China:Chinese|"
    "England:English|Austria:German|Egypt:Arabic|Argentina:Spanish").split("|"))

CURRENCY = dict(s.split(":") for s in (
    "Japan:yen|the United States:dollar|the United Kingdom:pound|Germany:euro|France:euro|Italy:euro|Spain:euro|Switzerland:franc|India:rupee|"
    "China:yuan|Russia:ruble|Mexico:peso|Poland:zloty|Sweden:krona|Turkey:lira|Canada:dollar|Brazil:real|South Korea:won").split("|"))

CONTINENT = dict(s.split(":") for s in (
    "France:Europe|Germany:Europe|Italy:Europe|Spain:Europe|Poland:Europe|Norway:Europe|Greece:Europe|Egypt:Africa|"
    "Kenya:Africa|Nigeria:Africa|Ghana:Africa|Japan:Asia|China:Asia|India:Asia|Thailand:Asia|Vietnam:Asia|Nepal:Asia|"
    "Canada:North America|Mexico:North America|Cuba:North America|Brazil:South America|Peru:South America|"
    "Chile:South America|Argentina:South America").split("|"))

HELLO = dict(s.split(":") for s in (
    "French:Bonjour|German:Hallo|Spanish:Hola|Italian:Ciao|Portuguese:Olá|Japanese:Konnichiwa|Swedish:Hej|Dutch:Hallo").split("|"))
