"""WordPiece, with pieces computed by the tokenizers of Hugging Face."""

import pytest

from dspex.execution.clients.minilm.wordpiece import WordPiece

PIECES = {
    "": "101 102",
    "My card was swallowed; why?": "101 2026 4003 2001 7351 1025 2339 1029 102",
    "na\xefve Caf\xe9 \xc0\xc9 \u0130stanbul": "101 15743 7668 29347 9960 102",
    "\u03a3\u0391\u03a3 \u03a4\u0399\u03a3": "101 1173 14608 29733 1174 18199 29733 102",
    "\u65e5\u672c\u8a9e\u30c6\u30ad\u30b9\u30c8 mixed": (
        "101 1864 1876 1950 1713 30227 30233 30240 3816 102"
    ),
    "\ud55c\uad6d\uc5b4": "101 1469 30006 30021 29991 30014 30020 29999 30008 102",
    "a\u200bb\x85c\x1cd\u2028e\xa0f\tg\ufffdh\x00": "101 5925 2094 1041 1042 1043 2232 102",
    "x" * 101: "101 100 102",
    "don't!!! $5.00 `a`^~+=<>|_": (
        "101 2123 1005 1056 999 999 999 1002 1019 1012 4002 1036 1037 1036 1034 1066 "
        "1009 1027 1026 1028 1064 1035 102"
    ),
    "\U0001f642\U0001f642 ok": "101 100 7929 102",
    "R\xfcckerstattungsrichtlinien f\xfcr \xdcbersee": (
        "101 21766 9102 9153 4779 5575 21338 7033 19646 5498 2368 6519 19169 19763 102"
    ),
    "unaffable electroencephalographically": (
        "101 14477 20961 3468 16175 10127 21890 21197 20721 3973 102"
    ),
    "\u201cquotes\u201d \u2014 dash\u2026 \u20ac5 \xbd \xb2 \u216b \ufb01": (
        "101 1523 16614 1524 1517 11454 1529 1574 2629 1092 1082 100 1984 102"
    ),
}


@pytest.fixture(scope="module")
def tokenizer() -> WordPiece:
    return WordPiece()


@pytest.mark.parametrize("text", PIECES)
def test_text_has_the_pieces_of_the_original(tokenizer, text):
    assert tokenizer.encode(text) == [int(number) for number in PIECES[text].split()]


def test_marks_in_a_text_are_ordinary_text(tokenizer):
    numbers = tokenizer.encode("[SEP] [CLS]")
    assert numbers.count(101) == numbers.count(102) == 1


def test_lone_surrogates_are_left_out(tokenizer):
    assert tokenizer.encode("a\ud83db") == tokenizer.encode("ab")
