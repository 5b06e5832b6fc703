"""The units that an answer may leave out; a word that is not among them is compared as text."""

from __future__ import annotations

# Each line lists the ways to write one unit, plural s aside; everything else in text mode is compared.
_UNITS = r"""
mm millimeter millimetre
cm centimeter centimetre
m meter metre
km kilometer kilometre
in inch inches
ft foot feet
yd yard
mi mile
mg milligram
g gram gm
kg kilogram
lb lbs pound
oz ounce
ton tonne
ms millisecond
s sec second
min minute
h hr hour
day
wk week
month
yr year
ml milliliter millilitre
l liter litre
gal gallon
cup
acre
mph
kmh kmph kph
rad radian
deg degree
n newton
j joule
kcal
w watt
v volt
pa pascal
hz hertz
ohm
mol mole
ev
erg
dollar usd buck
cent
euro
unit
apple
ball
book
car
card
coin
cookie
customer
edge
egg
game
integer
marble
meal
mark
member
number
page
pencil
people person
piece
point
problem
student
ticket
time
tile
tree
triangle
way
word
"""
UNITS: dict[str, str] = {
    form: names[0]
    for names in (line.split() for line in _UNITS.split("\n") if line)
    for name in names
    for form in (name, f"{name}s", f"{name}es")
} | dict.fromkeys(("sq", "square", "cu", "cubic", "per"), "")
