"""The vocabulary the items are filled from. Holds words only; knows no task."""

from __future__ import annotations


def _list(text: str) -> list[str]:
    """The entries between commas; an entry may be broken over two lines."""
    return [" ".join(entry.split()) for entry in text.split(",")]


FIRST = _list(
    """
    Anna, Boris, Carla, Dmitri, Elena, Felix, Greta, Hassan, Ingrid, Jonas, Karin, Liam,
    Maria, Nadia, Oscar, Paula, Quentin, Rosa, Stefan, Tara, Umar, Vera, Walter, Xenia, Yusuf,
    Zoe, Amelia, Bruno, Chloe, Daniel, Edith, Farid, Gwen, Hugo, Irene, Jamal, Keiko, Lars,
    Mona, Nils, Olga, Pedro, Rania, Simon, Thea, Viktor, Wendy, Adele, Basil, Clara, Devon,
    Esther, Fiona, George, Helen, Isaac, Julia, Kevin, Laura, Martin, Nora, Owen, Priya,
    Ralph, Sofia, Tomas, Ursula, Violet, Wilma, Andre, Bianca, Cyril, Doris, Emil, Flora,
    Gustav, Hilda, Ivan, Joyce, Klaus, Lydia, Mirko, Naomi
    """
)
LAST = _list(
    """
    Abbott, Becker, Castro, Dalton, Eriksen, Fischer, Gomez, Hansen, Iverson, Jansen, Keller,
    Lopez, Moreau, Nolan, Okafor, Petrov, Quinn, Rossi, Schmidt, Tanaka, Underwood, Vargas,
    Weber, Yilmaz, Zeller, Archer, Brandt, Clarke, Dubois, Ellis, Fontana, Grant, Holmes,
    Ibrahim, Jordan, Kovacs, Lindgren, Meyer, Novak, Osborne, Park, Reyes, Sato, Turner,
    Vogel, Walsh, Young, Zimmer, Barnes, Costa, Duarte, Engel, Ferrari, Gupta, Hughes, Jensen,
    Khan, Larsen
    """
)
UNICODE_FIRST = _list(
    """
    Zoë, Łukasz, Søren, Ünal, Žofia, Björn, Chloé, José, Ángela, Mária, Åsa, Þóra, Nguyễn,
    Ömer, İpek, Jürgen, Anaïs, François, Renée, Dvořák, Šárka, Ђорђе, Алина, Борис, Елена,
    Ελένη, Νίκος, 美咲, 大輔, 민준, 서연, 李娜, 王伟, ليلى
    """
)
UNICODE_LAST = _list(
    """
    Müller, Núñez, Łapiński, Ørsted, Çelik, Šimek, Håkansson, Gąsior, Peña, Öztürk, Brontë,
    Ibáñez, Løvås, Dvořáková, Петров, Иванова, Παππάς, 鈴木, 田中, 김, 박, 陈, García, Muñoz,
    Köhler, Größl
    """
)
CITIES = _list(
    """
    Berlin, Lisbon, Oslo, Madrid, Vienna, Dublin, Prague, Zurich, Milan, Lyon, Ghent, Porto,
    Turin, Bergen, Leeds, Bristol, Cardiff, Geneva, Hamburg, Munich, Krakow, Riga, Tallinn,
    Vilnius, Athens, Sofia, Zagreb, Malmo, Aarhus, Utrecht, Antwerp, Seville, Valencia,
    Naples, Palermo, Glasgow, Boston, Denver, Austin, Seattle, Chicago, Toronto, Ottawa,
    Sydney, Perth, Nairobi, Accra, Cairo, Lima, Quito, Bogota, Osaka, Kyoto, Seoul, Mumbai,
    Delhi, Manila
    """
)
UNICODE_CITIES = _list(
    """
    Zürich, München, Kraków, Malmö, São Paulo, Bogotá, Göteborg, Łódź, Århus, Reykjavík,
    Córdoba, Montréal, Besançon, Αθήνα, Москва, 東京, 서울, 北京, Plzeň, Tromsø
    """
)
STREETS = _list(
    """
    Oak Lane, Mill Road, Station Street, Church Way, Garden Row, Hill Avenue, River Walk, King
    Street, Maple Drive, Park Lane, School Road, Bridge Street, Market Square, Forest Path,
    Lake View, Rose Court, Cedar Close, Harbour Road, Castle Street, Meadow Lane, Tower
    Street, Orchard Road, Chapel Lane, Canal Street
    """
)
ITEMS = _list(
    """
    notebook, lamp, kettle, parasol, backpack, blanket, mirror, pillow, bucket, hammer,
    teapot, candle, basket, ladder, radio, stool, towel, vase, clock, jacket, scarf, pencil,
    wallet, bottle, frying pan, toaster, rug, helmet, tent, torch, suitcase, keyboard,
    printer, headset, monitor, charger, curtain, shelf, chess set, thermos
    """
)
PLURALS = _list(
    """
    notebooks, lamps, kettles, umbrellas, backpacks, blankets, mirrors, pillows, buckets,
    hammers, candles, baskets, towels, vases, clocks, jackets, scarves, pencils, bottles,
    mugs, plates, chairs, tickets, folders, stickers, batteries, brushes, envelopes, light
    bulbs, plant pots, tea towels, picture frames
    """
)
FOODS = _list(
    """
    apples, pears, plums, tomatoes, onions, carrots, lemons, potatoes, peaches, melons,
    cucumbers, peppers, leeks, turnips, cabbages, oranges, bananas, mangoes, figs, radishes
    """
)
COLOURS = _list(
    """
    red, blue, green, yellow, black, white, grey, brown, purple, orange, pink, silver
    """
)
WEEKDAYS = _list(
    """
    Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday
    """
)
MONTHS = _list(
    """
    January, February, March, April, May, June, July, August, September, October, November,
    December
    """
)
SHOPS = _list(
    """
    bakery, pharmacy, library, post office, swimming pool, museum, flower shop, butcher,
    bookshop, bank, hardware store, tailor, optician, bike shop, fish market, town hall, toy
    store, barber, pet shop, laundry, ice rink, aquarium, gallery, cinema
    """
)
ROOMS = _list(
    """
    kitchen, cellar, attic, garage, hall, study, bathroom, balcony, bedroom, pantry, workshop,
    garden shed, living room, guest room, laundry room, nursery
    """
)
OBJECTS = _list(
    """
    passport, spare key, first-aid box, toolbox, camera, sewing kit, flashlight, chequebook,
    guitar, sleeping bag, tablecloth, photo album, measuring tape, stapler, dog leash,
    hairdryer, extension cord, atlas
    """
)
TASKS = _list(
    """
    minutes, catering, music, decorations, budget, photos, invitations, parking, cleaning,
    lighting, ticket sales, translations, first aid, safety check, website, posters, seating
    plan, raffle
    """
)
HOBBIES = _list(
    """
    chess, pottery, archery, sailing, knitting, hiking, painting, fencing, gardening, rowing,
    juggling, baking, climbing, photography, bird watching, table tennis, calligraphy, skating
    """
)
EVENTS = _list(
    """
    spring fair, book reading, chess tournament, jazz evening, cooking class, art auction,
    city run, dance workshop, film night, flea market, poetry slam, science talk, garden tour,
    quiz night, choir concert, pottery course, photo exhibition, career day, wine tasting,
    craft market
    """
)
DOMAINS = _list(
    """
    example.com, example.org, example.net, mail.example, post.example, office.example
    """
)
COMPANIES = _list(
    """
    Northwind Supplies, Bluebird Travel, Greenleaf Foods, Harbor Tools, Summit Print,
    Brightside Energy, Oldtown Motors, Silverline Telecom, Cedar Furniture, Lakeside Dental,
    Polar Shipping, Sunrise Bakery, Vertex Media, Willow Textiles, Ironbridge Steel, Meadow
    Dairy, Pinewood Homes, Quartz Glass
    """
)
# Sentences that say nothing any question is about: no figures, names, prices, places or dates.
FILLER_SUBJECTS = _list(
    """
    The old gate, A tall hedge, The wooden fence, The narrow path, A stone wall, The quiet
    pond, The heavy door, A small bridge, The long bench, The iron railing, The round table, A
    painted sign, The broad staircase, The mossy roof, The empty shelf, A loose board, The
    plain curtain, The worn carpet, A faded map, The grey pavement, The brass handle, A woven
    basket, The clay pot, The tiled floor
    """
)
FILLER_VERBS = _list(
    """
    has not been changed for a while, looks much the same as before, is often mentioned by
    visitors, still needs a little care, was described in an older report, can be seen from
    the side entrance, is made of rather simple material, gets some light from above, has been
    discussed more than once, does not draw much attention, was left as it had been found, is
    looked after by volunteers, stands a little apart from the rest, has a somewhat uneven
    surface
    """
)
FILLER_TAILS = _list(
    """
    and nobody expects that to change, which most people seem to accept, although opinions
    differ a little, so there is nothing more to report, and that is quite usual, even when
    the weather is poor, as the people nearby know well, without any particular reason, and
    the matter was left there, which is hardly a surprise
    """
)
# Beginnings of sentences that are never finished.
CUTS = _list(
    """
    Please also note that the other forms will be sent as soon as they have been appro, There
    is one more thing that we wanted to mention before the next, As for the remaining points
    we will come back to them when the colle, The rest of this message could not be disp, More
    about this can be found in the attached docu, And finally a word about the way in which
    the furni
    """
)
EMOJI = _list(
    """
    📌, ✅, ⭐, 🙂, 📎, 🌿, ☕, 🎈
    """
)
