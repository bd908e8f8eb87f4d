import dspex


class Triage(dspex.Module):
    signature = "question -> answer: str"

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspex.Predict("question -> answer: str")

    async def forward(self, question: str) -> dspex.Prediction:
        return await self.answer.acall(question=question)


triage = Triage()
