"""One side of `core.py`: a process that does work with dspex or dspy and reports its cost.

Reads one JSON command per line, {"work": NAME, ...parameters}, and answers each with a JSON line.
    python core_side.py dspex|dspy|stream-server
"""

import asyncio
import gc
import json
import logging
import os
import resource
import sys
import time
import warnings
from typing import Literal

from pydantic import BaseModel

CHAT = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
TYPED = json.dumps({
    "f_literal": "positive", "f_list": ["alpha", "beta", "gamma"], "f_float": 0.87, "f_int": 42,
    "f_bool": True, "f_str": "a short string", "f_opt": None,
    "f_nested": {"name": "Ada", "age": 36, "tags": ["x", "y"],
                 "address": {"street": "1 Main St", "city": "Paris", "zip": "75001"}},
})  # fmt: skip


class Address(BaseModel):
    street: str
    city: str
    zip: str


class Person(BaseModel):
    name: str
    age: int
    tags: list[str]
    address: Address


FIELDS = {
    "f_literal": Literal["positive", "negative"], "f_list": list[str], "f_float": float,
    "f_int": int, "f_bool": bool, "f_str": str, "f_nested": Person, "f_opt": str | None,
}  # fmt: skip


def loop_factory():
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def run(coroutine):
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(coroutine)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident_kb() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024


async def many(call, count: int, concurrency: int) -> dict[str, float]:
    """Make `count` calls, `concurrency` at a time; the first wave is not counted."""
    numbers = iter(())

    async def worker():
        for number in numbers:
            await call(number)

    numbers = iter(range(concurrency))
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    numbers = iter(range(count))
    gc.collect()
    start, before = time.perf_counter(), cpu()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    wall, used = time.perf_counter() - start, cpu() - before
    return {"per_second": count / wall, "cpu_us": used / count * 1e6}


class Dspex:
    def __init__(self) -> None:
        import dspex
        from dspex.execution.clients import OpenAIModel, Response
        from dspex.execution.context import RunContext
        from dspex.language.records import Usage

        class Memory:
            name = "memory"
            capabilities = frozenset()

            def __init__(self, text):
                self.response = Response(
                    text=text,
                    usage=Usage(input_tokens=150, output_tokens=20, calls=1),
                    model="memory",
                )

            async def complete(self, _request):
                return self.response

            async def aclose(self):
                pass

        self.dspex, self.openai, self.context = dspex, OpenAIModel, RunContext
        self.qa = dspex.Predict("question -> answer")
        self.memory = RunContext(model=Memory(CHAT))
        body = {
            "__annotations__": {"text": str, **FIELDS},
            "__module__": __name__,
            "__doc__": "Fill the fields.",
        }
        typed = type(
            "Typed", (dspex.Signature,), {**body, **{name: dspex.Output() for name in FIELDS}}
        )
        self.typed = dspex.Predict(typed, adapter="json")
        self.typed_memory = RunContext(model=Memory(TYPED))

    def predict(self, calls: int) -> dict[str, float]:
        async def main():
            for number in range(calls):
                await self.qa.acall(
                    self.memory, question=f"What is the capital of France? ({number})"
                )

        run(main())
        before = cpu()
        run(main())
        return {"cpu_us": (cpu() - before) / calls * 1e6}

    def predict_sync(self, calls: int) -> dict[str, float]:
        def main():
            for number in range(calls):
                self.qa(self.memory, question=f"What is the capital of France? ({number})")

        main()
        before = cpu()
        main()
        return {"cpu_us": (cpu() - before) / calls * 1e6}

    def typed8(self, calls: int) -> dict[str, float]:
        async def main():
            for number in range(calls):
                prediction = await self.typed.acall(self.typed_memory, text=f"Some text {number}")
            assert prediction.f_nested.address.city == "Paris"

        run(main())
        before = cpu()
        run(main())
        return {"cpu_us": (cpu() - before) / calls * 1e6}

    def server(self, url: str, calls: int, concurrency: int) -> dict[str, float]:
        async def main():
            model = self.openai("gpt-4o-mini", base_url=f"{url}/v1")
            context = self.context(model=model)

            async def call(number):
                await self.qa.acall(context, question=f"What is the capital of France? ({number})")

            try:
                return await many(call, calls, concurrency)
            finally:
                await model.aclose()

        return run(main())

    def evaluate(self, url: str, rows: int, concurrency: int) -> dict[str, float]:
        from dspex.learning.evaluation import Dataset, aevaluate, exact_match

        async def main():
            model = self.openai("gpt-4o-mini", base_url=f"{url}/v1")
            context = self.context(model=model)
            data = Dataset.from_rows(
                [{"question": f"q{n}", "answer": "Paris"} for n in range(rows)]
            )
            await aevaluate(self.qa, data, exact_match, context=context, concurrency=concurrency)
            start, before = time.perf_counter(), cpu()
            report = await aevaluate(
                self.qa, data, exact_match, context=context, concurrency=concurrency
            )
            wall, used = time.perf_counter() - start, cpu() - before
            assert report.mean == 1.0
            await model.aclose()
            return {"per_second": rows / wall, "cpu_us": used / rows * 1e6}

        return run(main())

    def memory_growth(self, calls: int) -> dict[str, float]:
        class Counting:
            spans = 0

            def on_span(self, _span):
                self.spans += 1

            def on_event(self, _event):
                pass

        observer = Counting()
        context = self.context(model=self.memory.model, observer=observer, records_payloads=True)

        async def main(count):
            for number in range(count):
                await self.qa.acall(context, question=f"What is the capital of France? ({number})")

        run(main(500))
        gc.collect()
        before = resident_kb()
        run(main(calls))
        gc.collect()
        assert observer.spans >= 2 * calls
        return {"mb": (resident_kb() - before) / 1024}

    def first_delta(self, url: str, calls: int) -> dict[str, float]:
        async def main():
            model = self.openai("gpt-4o-mini", base_url=f"{url}/v1")
            context, delays = self.context(model=model), []
            for number in range(calls):
                has_started = False
                async for event in self.qa.stream(context, question=f"q{number}"):
                    if isinstance(event, self.dspex.FieldDelta) and not has_started:
                        has_started = True
                        delays.append((time.monotonic_ns() - int(event.text.split()[0])) / 1e6)
            await model.aclose()
            assert len(delays) == calls
            delays.sort()
            return {"p50_ms": delays[calls // 2], "p99_ms": delays[calls * 99 // 100]}

        return run(main())


class Dspy:
    def __init__(self) -> None:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        from types import SimpleNamespace

        import dspy
        from dspy.clients.base_lm import BaseLM

        class Memory(BaseLM):  # of the two ways to write one, the cheaper
            def __init__(self, text):
                super().__init__("memory", cache=False)
                self.text = text

            def forward(self, prompt=None, messages=None, **kwargs):
                choice = SimpleNamespace(
                    message=SimpleNamespace(content=self.text), finish_reason="stop"
                )
                return SimpleNamespace(choices=[choice], usage={}, model="memory")

            async def aforward(self, prompt=None, messages=None, **kwargs):
                return self.forward()

        self.dspy = dspy
        self.memory, self.typed_memory = Memory(CHAT), Memory(TYPED)
        self.qa = dspy.Predict("question -> answer")
        fields = {name: (kind, dspy.OutputField()) for name, kind in FIELDS.items()}
        self.typed = dspy.Predict(
            dspy.make_signature({"text": (str, dspy.InputField()), **fields}, "Fill the fields.")
        )
        self.typed.set_lm(self.typed_memory)

    def predict(self, calls: int) -> dict[str, float]:
        async def main():
            with self.dspy.context(lm=self.memory, adapter=self.dspy.ChatAdapter()):
                for number in range(calls):
                    await self.qa.acall(question=f"What is the capital of France? ({number})")

        run(main())
        before = cpu()
        run(main())
        return {"cpu_us": (cpu() - before) / calls * 1e6}

    def predict_sync(self, calls: int) -> dict[str, float]:
        def main():
            with self.dspy.context(lm=self.memory, adapter=self.dspy.ChatAdapter()):
                for number in range(calls):
                    self.qa(question=f"What is the capital of France? ({number})")

        main()
        before = cpu()
        main()
        return {"cpu_us": (cpu() - before) / calls * 1e6}

    def typed8(self, calls: int) -> dict[str, float]:
        async def main():
            with self.dspy.context(lm=self.typed_memory, adapter=self.dspy.JSONAdapter()):
                for number in range(calls):
                    prediction = await self.typed.acall(text=f"Some text {number}")
                assert prediction.f_nested.address.city == "Paris"

        run(main())
        before = cpu()
        run(main())
        return {"cpu_us": (cpu() - before) / calls * 1e6}

    def _lm(self, url: str):
        return self.dspy.LM(
            "openai/gpt-4o-mini", api_base=f"{url}/v1", api_key="none", cache=False, temperature=0.0
        )

    def server(self, url: str, calls: int, concurrency: int) -> dict[str, float]:
        async def main():
            async def call(number):
                await self.qa.acall(question=f"What is the capital of France? ({number})")

            with self.dspy.context(lm=self._lm(url), adapter=self.dspy.ChatAdapter()):
                return await many(call, calls, concurrency)

        return run(main())

    def evaluate(self, url: str, rows: int, concurrency: int) -> dict[str, float]:
        rows_ = [
            self.dspy.Example(question=f"q{n}", answer="Paris").with_inputs("question")
            for n in range(rows)
        ]
        run_ = self.dspy.Evaluate(
            devset=rows_,
            metric=lambda row, prediction, _trace=None: row.answer == prediction.answer,
            num_threads=concurrency,
            display_progress=False,
            display_table=False,
        )
        with self.dspy.context(lm=self._lm(url), adapter=self.dspy.ChatAdapter()):
            start, before = time.perf_counter(), cpu()
            assert run_(self.qa).score == 100.0
            return {
                "per_second": rows / (time.perf_counter() - start),
                "cpu_us": (cpu() - before) / rows * 1e6,
            }

    def memory_growth(self, calls: int) -> dict[str, float]:
        async def main(count):
            with self.dspy.context(lm=self.memory, adapter=self.dspy.ChatAdapter()):
                for number in range(count):
                    await self.qa.acall(question=f"What is the capital of France? ({number})")

        run(main(500))
        gc.collect()
        before = resident_kb()
        run(main(calls))
        gc.collect()
        return {"mb": (resident_kb() - before) / 1024}


async def stream_server() -> None:
    """Stream chat replies whose value begins with the time at which its chunk was written."""

    def chunk(content: str, finish: str | None = None) -> bytes:
        delta = {"content": content} if content else {}
        data = json.dumps(
            {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        ).encode()
        body = b"data: " + data + b"\n\n"
        return b"%x\r\n%s\r\n" % (len(body), body)

    async def serve(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if b"content-length" in line
            )
            await reader.readexactly(length)
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: "
                b"chunked\r\n\r\n"
            )
            for piece in (
                "[[ ## ans",
                "wer ## ]]\n",
                None,
                " and so on",
                "\n\n[[ ## completed",
                " ## ]]",
            ):
                await asyncio.sleep(0.001)
                writer.write(chunk(f"{time.monotonic_ns()} " if piece is None else piece))
            writer.write(chunk("", "stop") + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            await writer.drain()

    async def guarded(reader, writer):
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    if sys.argv[1] == "stream-server":
        asyncio.run(stream_server())
        return
    side = {"dspex": Dspex, "dspy": Dspy}[sys.argv[1]]()
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        work = getattr(side, command.pop("work"))
        try:
            answer = work(**command)
        except Exception as error:  # noqa: BLE001  # told to the parent, which shows it
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
