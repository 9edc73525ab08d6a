"""The texts to classify, by label: plain ones, and ones whose label is less obvious."""

from __future__ import annotations

SENTIMENT = {
    "positive": (
        "I love this {item}, it works perfectly.",
        "The {shop} in {city} is wonderful, {name} and I had a great time.",
        "What a beautiful {item}! I am very happy with it.",
        "Excellent service by {name}, thank you so much.",
        "The best {item} I have ever bought.",
    ),
    "negative": (
        "This {item} is terrible, it broke on {day}.",
        "The {shop} in {city} was dirty and {name} was rude to us.",
        "I hate this {item}. A waste of money.",
        "Very bad service, {name} never called back.",
        "The worst {item} I have ever owned.",
    ),
}
SENTIMENT_HARD = {
    "positive": (
        "I was warned about this {item}, and the box looked awful, but I would not give it back "
        "for anything.",
        "Nothing to complain about, although {name} kept telling me how bad the {shop} was.",
        "At first I cursed the {item}. {number} days later I bought a second one for {name}.",
    ),
    "negative": (
        "Everybody raves about this {item}. Mine went back to the shop after {number} days.",
        "The {shop} has a lovely front and a charming name; the rest is best forgotten.",
        "{name} called the {item} brilliant. I have seldom been so let down.",
    ),
    "neutral": (
        "The {item} was delivered on {day} and stands in the hall.",
        "The {shop} in {city} has {number} rooms on two floors.",
        "{name} ordered the {item} in {city} and picked it up on {day}.",
    ),
}
INTENT = {
    "question": (
        "When does the {shop} open on {day}?",
        "Can you tell me if the {item} is available in red?",
        "How long does delivery to {city} take?",
    ),
    "order": (
        "Please send me {number} {items}.",
        "I would like to buy the {item}, ship it to {city}.",
        "We hereby order {number} {items} for {name}.",
    ),
    "complaint": (
        "The {item} arrived broken. This is not acceptable.",
        "I have been waiting for my {items} since {day} and I am angry.",
        "Your colleague {name} was very rude to me.",
    ),
    "thanks": (
        "Thank you, {name}, the {items} are lovely.",
        "Many thanks for your quick help on {day}!",
        "I am grateful to the team of the {shop}. Thanks!",
    ),
}
INTENT_HARD = {
    "question": (
        "Thanks for the {items}. One thing I would like to know is whether the {item} fits too.",
        "The last {item} was a pity, but leave that aside: which model do you have in {city}?",
        "Before I order anything I need to know how long {number} {items} would take.",
    ),
    "order": (
        "Thanks for answering my question. In that case make it {number} {items}, to {city}.",
        "In spite of the trouble last time: {number} {items} again, please, on account.",
        "Put me down for {number} {items}; {name} will collect them on {day}.",
    ),
    "complaint": (
        "I ordered {number} {items} and thanked you in advance. Half of them were missing.",
        "Is it usual with you that a {item} falls apart on the first {day}?",
        "I asked {name} for {items} and got {number} of something else, which is no good to me.",
    ),
    "thanks": (
        "After all my questions and the mix-up with the order: you were very kind, {name}.",
        "No complaint this time, I only want to say how much the {items} pleased us.",
        "We appreciate that you sent the {number} {items} so fast.",
    ),
}
TOPIC = {
    "sports": (
        "{name} scored twice and the team won the match.",
        "The {city} marathon was won by a runner from {city}.",
        "The goalkeeper saved a penalty in the last minute.",
    ),
    "cooking": (
        "Chop the {food} and fry them in butter.",
        "Bake the cake for {number} minutes in a hot oven.",
        "Add salt to the soup and stir the {food} in.",
    ),
    "weather": (
        "It will rain in {city} on {day}, with strong wind.",
        "Snow and frost are expected in {city}.",
        "Sunny with a few clouds in {city} on {day}.",
    ),
    "finance": (
        "The bank raised its interest rate again on {day}.",
        "Shares of {company} fell by {number} percent.",
        "{name} opened a savings account at the bank in {city}.",
    ),
}
TOPIC_HARD = {
    "sports": (
        "In pouring rain {name} crossed the line {number} seconds before everyone else.",
        "The club sold its striker for a record sum, and lost at home on {day} all the same.",
        "{name} cooked up a win in {city}: two serves, two aces, set and match.",
    ),
    "cooking": (
        "On cold days let the {food} simmer gently; {number} minutes are worth the wait.",
        "The champion's trick: a pinch of sugar with the {food}, then a very hot pan.",
        "Good {food} need not cost much: peel, steam, season, serve.",
    ),
    "weather": (
        "Bakers in {city} may switch their ovens off on {day}: {number} degrees in the shade.",
        "The match on {day} will be a wet one, for a low moves in over {city}.",
        "A storm front reaches {city} on {day}; banks and schools are closed.",
    ),
    "finance": (
        "After the hot summer the price of {food} pushed {company} into the red.",
        "The club's owner issued bonds to pay back {number} million in loans.",
        "{company} weathered the storm and pays a dividend again.",
    ),
    "health": (
        "After the match the doctor advised {name} to rest the knee for {number} weeks.",
        "Doctors in {city} recommend {food} to patients with high blood pressure.",
        "The clinic in {city} gives flu shots from {day}, snow or no snow.",
    ),
}
URGENCY = {
    "urgent": (
        "The cellar is flooding right now, please come at once!",
        "Emergency: the {shop} is on fire!",
        "{name} is locked in the lift and needs help immediately.",
        "Gas smell in the {shop}. Send somebody now.",
    ),
    "not urgent": (
        "The {item} can be repaired some time next month.",
        "When you have time, please order new {items}.",
        "No hurry, {name}, but the {shop} needs a coat of paint one day.",
        "It would be nice to get a new {item} next year.",
    ),
}
URGENCY_HARD = {
    "urgent": (
        "I don't want to make a fuss, but {name} has stopped breathing.",
        "No need to shout about it, yet the flames have reached the {item} by now.",
        "Just a small note: the water is at the sockets in the {shop} already.",
    ),
    "not urgent": (
        "The word URGENT on my last note was a slip; the {items} can wait until autumn.",
        "{name} ran in and shouted for a new {item}. Any time this year will do.",
        "The alarm at the {shop} was only a test, please file this note.",
    ),
}
LANGUAGE = {
    "English": ("{name} is waiting at the station.", "We bought bread and milk this morning."),
    "German": ("{name} wartet am Bahnhof.", "Wir haben heute Morgen Brot und Milch gekauft."),
    "French": ("{name} attend à la gare.", "Nous avons acheté du pain et du lait ce matin."),
    "Spanish": ("{name} espera en la estación.", "Esta mañana compramos pan y leche."),
}
LANGUAGE_HARD = {
    "Spanish": ("{name} no sabe a qué hora sale el tren.", "Mañana vamos a la casa de {name}."),
    "Portuguese": ("{name} não sabe a que horas sai o trem.", "Amanhã vamos à casa de {name}."),
    "Italian": ("{name} non sa a che ora parte il treno.", "Domani andiamo a casa di {name}."),
    "Dutch": ("{name} weet niet hoe laat de trein vertrekt.", "Morgen gaan we naar {name}."),
    "Swedish": ("{name} vet inte när tåget går.", "I morgon åker vi hem till {name}."),
}
SPAM = {
    "spam": (
        "You have WON {number},000 dollars! Click here to claim your prize!",
        "Cheap pills, {number}% off, buy now!!!",
        "Congratulations! You are our lucky winner. Send your bank details.",
        "Make money fast from home, no work needed, click this link!",
    ),
    "not spam": (
        "Hi {name}, are we still meeting on {day}?",
        "The minutes of the meeting in {city} are attached.",
        "Dinner at our place on {day}? {name} is coming too.",
        "Your {item} is ready, you can pick it up at the {shop}.",
    ),
}
SPAM_HARD = {
    "spam": (
        "Dear customer, your mailbox is full. Use the link within {number} hours or lose it.",
        "Hello, it's {name} with a new number. I have lost my purse in {city}, can you wire money?",
        "The parcel with your {item} is held back. Pay the small fee by gift card to release it.",
    ),
    "not spam": (
        "You won! {name} drew your number at the school raffle, come and get your {item} on {day}.",
        "Free {food} from our garden: take as many as you like, the box is by the gate. {name}",
        "I have to cancel my order of {number} {items}, so no money is due. Greetings, {name}",
    ),
}
DEPARTMENT = {
    "billing": (
        "I was charged twice for the {item}.",
        "Please send a corrected invoice to {city}.",
        "My refund of {number} dollars has not been paid.",
    ),
    "shipping": (
        "My parcel with the {items} has not arrived in {city}.",
        "When will the {item} be delivered?",
        "The courier left my package at the {shop}.",
    ),
    "technical": (
        "The app crashes when I log in.",
        "My {item} does not switch on and shows an error.",
        "I cannot reset my password on your website.",
    ),
}
DEPARTMENT_HARD = {
    "billing": (
        "The {item} works and came on {day}, only my card shows the amount two times.",
        "The app is fine and so was the courier; but why does my statement list {number} dollars?",
        "Since the parcel never came, I have got a reminder to pay for it although I paid.",
    ),
    "shipping": (
        "Paid on {day}, app says all is well, yet nobody has rung my door bell in {city}.",
        "The invoice came at once. The {items} themselves seem to be lost on the road.",
        "I know how to set the {item} up; it only has to get to {city} first.",
    ),
    "technical": (
        "I paid, the {item} came the next day, and now it only blinks.",
        "Your invoice page shows a blank screen in every browser I have tried.",
        "The tracking page freezes as soon as I type in the parcel number.",
    ),
    "sales": (
        "Before I pay or have anything shipped: is there a discount on {number} {items}?",
        "We run the {shop} in {city} and think about {number} of your {items}. Any offer?",
        "Which {item} would you recommend for a family of four?",
    ),
}
EMOTION = {
    "happy": ("{name} laughed and danced for joy.", "I am so glad that you came, {name}!"),
    "sad": ("{name} cried all evening.", "I feel so down since {name} left."),
    "angry": ("{name} shouted and slammed the door.", "I am furious with {name}!"),
    "afraid": ("{name} trembled in the dark.", "I am scared of the dog in the {shop}."),
}
EMOTION_HARD = {
    "happy": (
        "Tears ran down {name}'s face when the lost dog came round the corner.",
        "{name} had feared the letter, opened it, and hugged the postman.",
    ),
    "sad": (
        "{name} smiled at the old photo, then quietly put it into the box for good.",
        "The party went on, but {name} sat by the empty chair and did not touch the cake.",
    ),
    "angry": (
        "{name} said in a very low voice that nobody would ever do that to them again.",
        "{name} laughed out loud, tore the bill in two and asked for the manager.",
    ),
    "afraid": (
        "{name} told jokes all the way, one hand on the alarm, eyes on the door.",
        "{name} would have loved to go up the tower, but the knees gave way at the first step.",
    ),
}
TENSE = {
    "past": (
        "{name} bought a {item} in {city}.",
        "We waited for {name} at the {shop}.",
        "The {shop} closed early.",
    ),
    "present": (
        "{name} is buying a {item} in {city}.",
        "We are waiting for {name} at the {shop}.",
        "The {shop} is open.",
    ),
    "future": (
        "{name} will buy a {item} in {city}.",
        "We will wait for {name} at the {shop}.",
        "The {shop} will close early.",
    ),
}
TENSE_HARD = {
    "past": (
        "Back then {name} used to think about tomorrow a lot.",
        "{name} had already left {city} when the {shop} opened its doors.",
    ),
    "present": (
        "{name} still talks about what happened in {city} in those days.",
        "These days {name} thinks about next year's trip to {city}.",
    ),
    "future": (
        "By next {day} {name} will have finished the {item} that was started last year.",
        "Soon {name} is going to tell us what happened in {city}.",
    ),
}
FORMALITY = {
    "formal": (
        "Dear Sir or Madam, I am writing to enquire about the position in {city}.",
        "We regret to inform you that the {shop} will remain closed.",
        "Yours faithfully, {name}",
    ),
    "informal": (
        "Hey {name}, what's up? Wanna hang out on {day}?",
        "lol that {item} is so cool, gonna get one too",
        "See ya at the {shop}, {name}!",
    ),
}
FORMALITY_HARD = {
    "formal": (
        'Kindly refrain from the phrase "what\'s up" in letters to {company}.',
        "The undersigned confirms receipt of one {item}.",
        "Further to our talk of {day}, the {items} are herewith returned.",
    ),
    "informal": (
        "Dear old {name}, get your esteemed self over here on {day}, will you?",
        "Guess the board can't be bothered, so no luck with the {items}.",
        "The committee? Total mess, mate.",
    ),
}
SPEECH = {
    "question": ("Where is the {shop}?", "Have you seen my {item}?"),
    "command": ("Close the door.", "Bring me the {item}, please."),
    "statement": ("The {shop} is in {city}.", "{name} has a new {item}."),
}
SPEECH_HARD = {
    "question": ("And the {item} was where, did you say", "Who asked {name} to wait at the {shop}"),
    "command": ("{name}, not another word about the {item}", "Ask {name} where the {shop} is"),
    "statement": (
        "I wonder where the {item} is",
        "{name} asked me to close the door of the {shop}",
    ),
}
PLANTS = {
    "animal": ("horse", "rabbit", "eagle", "dolphin", "spider", "goat", "salmon", "tiger"),
    "plant": ("oak", "rose", "tulip", "fern", "cactus", "grass", "ivy", "pine tree"),
    "machine": ("tractor", "lathe", "engine", "crane", "printer", "pump", "robot", "drill"),
}
PLANTS_HARD = {
    "animal": ("sea cucumber", "coral", "sponge from the reef", "stick insect", "sea anemone"),
    "plant": ("tiger lily", "snapdragon", "Venus flytrap", "goosegrass", "cattail"),
    "machine": ("caterpillar excavator", "pile driver", "cherry picker", "wind turbine", "loom"),
    "mineral": ("tiger's eye", "rose quartz", "cat's eye gem", "moss agate", "iron ore"),
}
SETTING = {
    "kitchen": ("{name} washed the dishes and put the pan on the stove.", "The oven is too hot."),
    "hospital": ("The nurse brought the medicine.", "{name} lay in bed after the operation."),
    "school": ("The teacher wrote on the blackboard.", "{name} handed the homework in."),
}
SETTING_HARD = {
    "kitchen": (
        "{name} read the book by the sink while the {food} went soft under the lid.",
        "The surgeon had a day off and was carving the roast.",
    ),
    "hospital": (
        "The cook was wheeled in with a broken leg.",
        "{name} taught the new ones how to dress a wound.",
    ),
    "school": (
        "The lesson was about how the heart pumps blood.",
        "Today the class in room {number} learned to bake bread from a film.",
    ),
    "garage": (
        "{name} poured oil in, wiped both hands and let the lift down.",
        "The doctor's car was up on the ramp again.",
    ),
}
