"""Answer questions from the handbook of a shop, and quote it."""

from pathlib import Path

import dspex

handbook = dspex.Collection.from_files(Path(__file__).with_name("handbook.csv"))
ask = dspex.RAG("question -> answer: Cited", handbook, k=dspex.Integer(1, 5, default=3))
