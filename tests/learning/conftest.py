import pytest

from dspex.execution.clients import Response
from dspex.language.records import Usage


class Rulebook:
    """Answers as a function of the request says.

    Counts its calls and how many of them overlapped.
    """

    name = "rulebook"
    capabilities = frozenset({"response_schema", "constrained_decoding"})

    def __init__(self, answer):
        self._answer = answer
        self.requests = []

    async def complete(self, request):
        self.requests.append(request)
        text = self._answer(request)
        return Response(
            text=text, usage=Usage(input_tokens=10, output_tokens=2, calls=1), model=self.name
        )

    async def aclose(self):
        pass


@pytest.fixture
def rulebook():
    return Rulebook
