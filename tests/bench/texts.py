"""Sentences of mixed length, and a text that takes about a minute to read."""

SENTENCES = [
    "The birch canoe slid on the smooth planks.",
    "Glue the sheet to the dark blue background.",
    "It was a bright cold day in April, and the clocks were striking thirteen.",
    "These days a chicken leg is a rare dish.",
    "Rice is often served in round bowls.",
    "The juice of lemons makes fine punch.",
    "When he came home late that evening, tired and wet from the long road, nobody had lit the lamp in the hall.",
    "The box was thrown beside the parked truck.",
    "Four hours of steady work faced us.",
    "A large size in stockings is hard to sell, or so the old man behind the counter kept telling everyone who asked.",
    "The boy was there when the sun rose.",
    "The source of the huge river is the clear spring.",
    "Kick the ball straight and follow through.",
    "Help the woman get back to her feet.",
    "A pot of tea helps to pass the evening.",
    "Smoky fires lack flame and heat.",
]
MINUTE = " ".join(SENTENCES + SENTENCES[:4])
