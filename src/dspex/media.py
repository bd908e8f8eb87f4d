"""Media: the values of fields that hold pictures, recordings, files and conversations.

`Image("photo.png")`, `Image(data)` and `Image("https://example.org/a.png")` make a picture.
"""

from dspex.language.signatures.content import Audio, Code, Document, File, History, Image, Turn

__all__ = ["Audio", "Code", "Document", "File", "History", "Image", "Turn"]
