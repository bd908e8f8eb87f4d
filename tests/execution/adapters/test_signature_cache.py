import threading
from concurrent.futures import ThreadPoolExecutor

from dspex import Signature
from dspex.execution.adapters.signature_cache import SignatureCache


def test_concurrent_first_calls_compile_a_signature_once():
    together, compiled = threading.Barrier(8), []

    def slowly(signature: Signature) -> object:
        compiled.append(signature)
        return object()

    plan, signature = (
        SignatureCache(slowly),
        Signature("question: str[max_length=9] -> answer: list[int], n: int = 3"),
    )

    def first_call(_: int) -> tuple[object, object]:
        together.wait(10)
        return plan(signature), signature.input_validator({"question": "q"})

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(first_call, range(8)))
    assert compiled == [signature]
    assert len({id(validator) for validator, _ in results}) == 1
    assert signature.input_validator.compilations == 1
