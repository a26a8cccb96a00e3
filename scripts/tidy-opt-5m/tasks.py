"""Synthetic data-cleaning tasks: (task, input, output) triples from a seeded generator.

Every example is a pure function of (seed, index), so the training rows and the held-out rows can be made again at
any time. Held-out rows use other seeds, and names/streets that training never shows.

Usage: python3 tasks.py SEED COUNT     (prints different held-out rows as JSON lines; needs nothing but Python)
"""

import json
import random
import sys


def phrases(text):
    """Parts between bars; a line may end after a bar."""
    return [part.strip() for part in text.split("|")]


MONTHS = "January February March April May June July August September October November December".split()
STATE_NAMES = phrases("""
Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|
Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana|
Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|
Pennsylvania|Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|
West Virginia|Wisconsin|Wyoming
""")
STATE_CODES = """
AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR PA RI
SC SD TN TX UT VT VA WA WV WI WY
""".split()
STATES = dict(zip(STATE_NAMES, STATE_CODES))
ABBR_NAME = {v: k for k, v in STATES.items()}
CITIES = phrases("""
New York:NY|Los Angeles:CA|Chicago:IL|Houston:TX|Phoenix:AZ|Philadelphia:PA|San Antonio:TX|San Diego:CA|Dallas:TX|
San Jose:CA|Austin:TX|Jacksonville:FL|Columbus:OH|Charlotte:NC|Indianapolis:IN|Seattle:WA|Denver:CO|Boston:MA|
Nashville:TN|Detroit:MI|Memphis:TN|Baltimore:MD|Milwaukee:WI|Albuquerque:NM|Tucson:AZ|Fresno:CA|Sacramento:CA|
Atlanta:GA|Omaha:NE|Raleigh:NC|Miami:FL|Oakland:CA|Minneapolis:MN|Tulsa:OK|Tampa:FL|New Orleans:LA|Wichita:KS|
Cleveland:OH|Honolulu:HI|Anchorage:AK|Pittsburgh:PA|Cincinnati:OH|Newark:NJ|Buffalo:NY|Madison:WI|Boise:ID|
Richmond:VA|Des Moines:IA|Salt Lake City:UT|Little Rock:AR|Providence:RI|Hartford:CT|Birmingham:AL|Jackson:MS|
Louisville:KY|Las Vegas:NV|Portland:OR|Charleston:WV|Burlington:VT|Billings:MT|Fargo:ND|Cheyenne:WY|Sioux Falls:SD|
Wilmington:DE|Bangor:ME|Columbia:SC|Manchester:NH|St. Louis:MO|Oklahoma City:OK|Worcester:MA
""")
CITIES = [c.split(":") for c in CITIES]
FIRST = """
Anna Ben Carla David Elena Frank Grace Henry Irene Jack Karen Liam Maria Noah Olivia Paul Quinn Rosa Samuel Tara
Umar Victor Wendy Xavier Yara Zoe Aisha Bruno Chen Dmitri Emma Farid Gita Hugo Ivan Julia Kofi Lena Marco Nina Oscar
Priya Ravi Sofia Tomas Ursula Vera Walter Ximena Yusuf
""".split()
LAST = """
Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Gonzalez Wilson Anderson
Thomas Taylor Moore Jackson Martin Lee Perez Thompson White Harris Clark Lewis Robinson Walker Young Allen King
Wright Scott Torres Nguyen Hill Flores Green Adams Nelson Baker Hall Rivera Campbell Mitchell Carter Roberts Novak
Schmidt Kim Patel Ivanov Tanaka Silva Rossi Kowalski Larsen Dubois Haddad
""".split()
FIRST_HELD = """
Alice Boris Diego Fiona Georg Hana Isaac Joanna Kurt Lucia Milan Nadia Otto Petra Simon Tina
""".split()
LAST_HELD = """
Baumann Castro Dawson Eriksen Fischer Gupta Hoffman Irving Jensen Keller Lambert Morales Norton Ortega Parker
Sanders
""".split()
STREETS = """
Main Oak Maple Cedar Pine Elm Washington Lake Hill Park View Church River Spring Center Ridge Walnut Highland Mill
Sunset Forest Meadow Chestnut Franklin Cherry Willow Jefferson Adams Lincoln Madison
""".split()
STREETS_HELD = """
Birch Canyon Dogwood Garden Harbor Juniper Laurel Magnolia Orchard Prairie Summit Valley
""".split()
KINDS = [
    ("Street", "St"),
    ("Avenue", "Ave"),
    ("Road", "Rd"),
    ("Boulevard", "Blvd"),
    ("Drive", "Dr"),
    ("Lane", "Ln"),
    ("Court", "Ct"),
]
BRANDS = """
Sony Canon Samsung Dell Apple Bosch Philips Nikon Asus Logitech Garmin Makita Epson Brother Lenovo Panasonic JBL
Bose Netgear Sandisk
""".split()
PRODUCTS = {
    "camera": "digital camera|compact camera|mirrorless camera|zoom lens|camera tripod",
    "computer": "gaming laptop|notebook|desktop computer|tablet|computer monitor|wireless keyboard|optical mouse",
    "audio": "wireless headphones|bluetooth speaker|soundbar|earbuds|studio microphone",
    "kitchen": "coffee maker|electric kettle|hand blender|toaster oven|rice cooker|frying pan",
    "tools": "cordless drill|circular saw|impact driver|angle grinder|tool box",
    "garden": "lawn mower|garden hose|hedge trimmer|leaf blower|plant pot",
    "office": "laser printer|paper shredder|office chair|desk lamp|label maker|stapler",
    "clothing": "cotton shirt|rain jacket|wool sweater|denim jeans|running shoes|leather belt",
    "toys": "building blocks|board game|plush bear|toy train|jigsaw puzzle",
    "sports": "yoga mat|tennis racket|mountain bike|camping tent|soccer ball|dumbbell set",
}
PRODUCTS = {k: v.split("|") for k, v in PRODUCTS.items()}
COLORS = "black white red blue green silver gray yellow".split()
# A syllable may begin with a vowel; what is frequent stands twice.
ONSETS = [
    "",
    *"""
b bl br c ch cl cr d dr f fl fr g gl gr gu h j k kl kr l m n p ph pl pr qu r rh s sc sch sh sk sl sm sn sp st str t
th tr v w wh x y z b d f g h j k l m n p r s t v
""".split(),
]
VOWELS = "a e i o u y ai au ea ee ei ie io oa oo ou a e i o u a e i o".split()
CODAS = "b ck d ff g k l ll lt m mp n nd ng nn nt p r rd rk rn rs rt s sh sk ss st t th tt tz w x z l m n r s t".split()
POS = phrases("""
great|excellent|love it|works perfectly|very happy with it|best purchase this year|highly recommend|
fast delivery and superb quality|exceeded my expectations|five stars
""")
NEG = phrases("""
terrible|broke after two days|waste of money|very disappointed|stopped working|poor quality|would not buy again|
arrived damaged|one star|does not work at all
""")
NEU = phrases("""
it is okay|average product|does the job, nothing special|neither good nor bad|as described|acceptable for the price|
it is fine I guess|mixed feelings
""")


class Gen:
    """One source of examples. held=True draws from names and streets that training never uses."""

    def __init__(self, seed, held=False):
        self.r, self.held = random.Random(seed), held

    def pick(self, xs):
        return self.r.choice(xs)

    def digits(self, n):
        return "".join(self.pick("0123456789") for _ in range(n))

    def first(self):
        return self.pick(FIRST_HELD if self.held else FIRST)

    def last(self):
        return self.pick(LAST_HELD if self.held else LAST)

    def made_up(self):
        """A pronounceable word that is on no list, so that names are copied letter by letter, not recalled."""
        w = "".join(
            self.pick(ONSETS) + self.pick(VOWELS) + (self.pick(CODAS) if self.r.random() < 0.5 else "")
            for _ in range(self.r.choice([1, 2, 2, 2, 3]))
        )
        return (w + self.pick(["", "", "", "er", "sen", "man", "mann", "ley", "ton", "ski", "ia", "a", "o"])).capitalize()

    def word(self):
        return "".join(self.pick("bcdfghklmnprstvw") + self.pick("aeiou") for _ in range(self.r.randint(1, 3)))

    def name(self):
        """First and last name. In training most are made up, so that copying is learned, not a list."""
        f, l = self.first(), self.last()
        if not self.held and self.r.random() < 0.6:
            f = self.made_up()
        if not self.held and self.r.random() < 0.7:
            l = self.made_up()
        return f, l

    def street(self):
        s = self.pick(STREETS_HELD if self.held else STREETS)
        if not self.held and self.r.random() < 0.6:
            s = self.made_up()
        return s

    def noisy_case(self, s):
        k = self.r.random()
        return s.upper() if k < 0.25 else s.lower() if k < 0.5 else s

    def date(self):
        y, m, d = self.r.randint(1950, 2039), self.r.randint(1, 12), self.r.randint(1, 28)
        mon, th = MONTHS[m - 1], {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd"}.get(d, "th")
        s = self.pick(
            [
                f"{mon} {d}, {y}",
                f"{d} {mon} {y}",
                f"{mon[:3]} {d} {y}",
                f"{d}{th} of {mon}, {y}",
                f"{d}-{mon[:3]}-{y}",
                f"{y}/{m}/{d}",
                f"{y}.{m:02}.{d:02}",
                f"{m}/{d}/{y}",
                f"{m:02}/{d:02}/{y}",
                f"{d}.{m}.{y}",
                f"{mon[:3]}. {d}{th}, {y}",
                f"{y}{m:02}{d:02}",
            ]
        )
        return self.noisy_case(s) if self.r.random() < 0.3 else s, f"{y}-{m:02}-{d:02}"

    def phone(self):
        a, b, c = self.pick("23456789") + self.digits(2), self.pick("23456789") + self.digits(2), self.digits(4)
        s = self.pick(
            [
                f"({a}) {b}-{c}",
                f"{a}-{b}-{c}",
                f"{a}.{b}.{c}",
                f"{a} {b} {c}",
                f"{a}{b}{c}",
                f"1-{a}-{b}-{c}",
                f"+1 ({a}) {b} {c}",
                f"tel: {a}/{b}-{c}",
                f"1 {a} {b}{c}",
            ]
        )
        return s, f"+1-{a}-{b}-{c}"

    def name_order(self):
        f, l = self.name()
        mid = self.pick(["", "", f" {self.pick('ABCDEFGHJKLMNPRST')}."])
        title = self.pick(["", "", "", "Mr. ", "Mrs. ", "Dr. ", "Prof. "])
        s = self.pick([f"{title}{f}{mid} {l}", f"{l}, {f}{mid}", f"{title}{f} {l}"])
        has_mid = mid and mid in s
        return self.noisy_case(s), f"{l}, {f}{mid if has_mid else ''}"

    def price(self):
        cur, sym = self.pick([("USD", "$"), ("EUR", "€"), ("GBP", "£")])
        whole, cents = self.r.choice([self.r.randint(1, 999), self.r.randint(1000, 99999)]), self.digits(2)
        sep = f"{whole:,}"
        s = self.pick(
            [
                f"{sym}{sep}.{cents}",
                f"{sym} {whole}.{cents}",
                f"{whole}.{cents} {cur}",
                f"{cur} {sep}.{cents}",
                f"{whole}.{cents}{sym}",
                f"price: {sym}{sep}.{cents}",
                f"{cur.lower()} {whole}.{cents}",
            ]
        )
        return s, f"{whole}.{cents} {cur}"

    def email(self):
        f, l = self.name()
        dom = self.word() + self.pick([".com", ".org", ".net", ".io"])
        e = self.pick([f"{f}.{l}@{dom}", f"{f[0]}{l}@{dom}", f"{l}_{f}@{dom}", f"{f}{self.digits(2)}@{dom}"]).lower()
        s = self.pick(
            [
                f"Contact {f} at {e} for details.",
                f"{f} {l} <{e}>",
                f"Please write to {e}",
                f"mail: {e}; phone: {self.digits(3)}-{self.digits(4)}",
                f"You can reach me ({f}) under {e} any time.",
            ]
        )
        return s, e

    def state(self):
        k = self.pick(list(STATES))
        s = self.noisy_case(k)
        if self.r.random() < 0.25:
            s = self.typo(s)
        return s, STATES[k]

    def typo(self, s):
        i = self.r.randrange(1, max(2, len(s) - 1))
        k = self.r.random()
        return (
            s[:i] + s[i + 1 :]
            if k < 0.35
            else (
                s[:i] + s[i] + s[i:]
                if k < 0.6
                else (
                    s[: i - 1] + s[i : i + 1] + s[i - 1] + s[i + 1 :] if k < 0.8 else s[:i] + self.pick("aeioxzqw") + s[i + 1 :]
                )
            )
        )

    def city(self):
        c, st = self.pick(CITIES)
        f, l = self.name()
        s = self.pick(
            [
                f"city: {c}",
                f"name: {f} {l}; city: {c}",
                f"{self.r.randint(1, 9999)} {self.street()} St, {c}",
                f"{c} (downtown)",
            ]
        )
        return self.noisy_case(s) if self.r.random() < 0.4 else s, st

    def product(self):
        cat = self.pick(list(PRODUCTS))
        return (
            cat,
            f"{self.pick(BRANDS)} {self.pick(COLORS)} {self.pick(PRODUCTS[cat])} "
            f"{self.pick('ABCDEFGHKLMPRSTVXZ')}{self.pick('ABCDEFGHKLMPRSTVXZ')}-{self.digits(self.r.choice([2, 3, 4]))}",
        )

    def category(self):
        cat, p = self.product()
        return self.noisy_case(p), cat

    def match(self):
        cat, a = self.product()
        w = a.split(" ")
        yes = self.r.random() < 0.5
        if yes:
            b = list(w)
            if self.r.random() < 0.5:
                b[-1] = b[-1].replace("-", self.pick(["", " "]))
            if self.r.random() < 0.4:
                del b[1]
            if self.r.random() < 0.3:
                b = b[:1] + [b[-1]] + b[1:-1]
        else:
            b = list(w)
            k = self.r.random()
            if k < 0.6:
                old = b[-1]
                while b[-1] == old:
                    b[-1] = (
                        old[:3] + self.digits(len(old) - 3)
                        if self.r.random() < 0.7
                        else self.pick("ABCDEFGHKLMPRSTVXZ") + old[1:]
                    )
            else:
                b = self.product()[1].split(" ")
        b = " ".join(b)
        return f"A: {self.noisy_case(a)} | B: {self.noisy_case(b)}", "Yes" if yes else "No"

    def error(self):
        """Is there a spelling error in one field of a record?"""
        c, st = self.pick(CITIES)
        col, val = self.pick(
            [
                ("city", c),
                ("state", ABBR_NAME[st]),
                ("month", self.pick(MONTHS)),
                ("category", self.pick(list(PRODUCTS))),
            ]
        )
        bad = self.r.random() < 0.5
        shown = self.typo(val) if bad else val
        if shown == val:
            bad = False
        f, l = self.name()
        return f"id: {self.digits(4)}; name: {f} {l}; {col}: {shown}", "Yes" if bad else "No"

    def sentiment(self):
        lab, xs = self.pick([("positive", POS), ("negative", NEG), ("neutral", NEU)])
        item = self.pick(self.pick(list(PRODUCTS.values())))
        a, b = self.pick(xs), self.pick(xs)
        s = self.pick(
            [
                f"{a}",
                f"The {item}: {a}.",
                f"{a}. Bought the {item} for {self.first()}, {b}.",
                f"My {item} arrived {self.pick(['on Monday', 'last week', 'yesterday'])}. {a}!",
                f"{a}, {b}",
            ]
        )
        return s, lab

    def address(self):
        c, st = self.pick(CITIES)
        no, street, (kind, ab), z = self.r.randint(1, 9999), self.street(), self.pick(KINDS), self.digits(5)
        k = self.pick([kind, ab, ab + "."])
        s = self.pick(
            [
                f"{no} {street} {k}, {c}, {st} {z}",
                f"{no} {street} {k} {c} {st} {z}",
                f"{no} {street} {k}, {c} {ABBR_NAME[st]} {z}",
                f"{c}, {st} {z}, {no} {street} {k}",
            ]
        )
        return self.noisy_case(s) if self.r.random() < 0.3 else s, f"{no} {street} {ab} | {c} | {st} | {z}"

    def weight(self):
        n = self.r.randint(1, 999)
        s, g = self.pick(
            [
                (f"{n} kg", n * 1000),
                (f"{n}kg", n * 1000),
                (f"{n // 100}.{n % 100 // 10} kg", n // 10 * 100),
                (f"{n} g", n),
                (f"{n} grams", n),
                (f"{n} kilograms", n * 1000),
                (f"{n // 100},{n % 100 // 10} kg", n // 10 * 100),
            ]
        )
        return self.pick(["", "weight: ", "net "]) + s, f"{g} g"

    def order(self):
        f, l = self.name()
        q, no = self.r.randint(1, 99), self.digits(5)
        item = f"{self.pick(COLORS)} {self.pick(self.pick(list(PRODUCTS.values())))}"
        s = self.pick(
            [
                f"Order {no}: {q} x {item} for {f} {l}",
                f"{f} {l} ordered {q} {item} (order no. {no})",
                f"#{no} {item}, quantity {q}, customer {f} {l}",
                f"Please send {q} {item} to {f} {l}. Reference {no}.",
            ]
        )
        return s, json.dumps({"order": no, "item": item, "quantity": q, "customer": f"{f} {l}"})


# task name -> (instruction line, method name)
TASKS = {
    "date": "Write the date as YYYY-MM-DD",
    "phone": "Normalize the phone number",
    "name_order": "Write the name as Last, First",
    "price": "Normalize the price",
    "email": "Extract the email address",
    "state": "Give the state code",
    "city": "Impute the state of the city",
    "category": "Classify the product",
    "match": "Do A and B match?",
    "error": "Is there a spelling error?",
    "sentiment": "Classify the sentiment",
    "address": "Split the address",
    "weight": "Convert the weight to grams",
    "order": "Extract the order as JSON",
}


def prompt(task, text):
    return f"Task: {TASKS[task]}\nInput: {text}\nOutput:"


def examples(seed, n, held=False, weights=None):
    g = Gen(seed, held)
    names = list(TASKS)
    w = [weights.get(t, 1.0) for t in names] if weights else None
    for _ in range(n):
        t = g.r.choices(names, w)[0]
        i, o = getattr(g, t)()
        yield t, i, o


def held_out(seed, n):
    """n different rows with the names and streets that training never shows."""
    seen = set()
    for t, i, o in examples(seed, 10**9, held=True):
        p = prompt(t, i)
        if p not in seen:
            seen.add(p)
            yield {"task": t, "prompt": p, "expected": o}
            if len(seen) == n:
                return


if __name__ == "__main__":
    seed, n = (int(argument) for argument in sys.argv[1:3])
    for row in held_out(seed, n):
        print(json.dumps(row))
