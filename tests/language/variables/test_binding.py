"""Variables of running modules: declared in line, bound from outside, shared, and chosen between modules."""

import asyncio
import json

import pytest

import dspex
from dspex.errors import DefinitionError, VariableError
from dspex.execution.modules.switch import OneOf, Switch
from dspex.language.variables import Choice, Composite, Constraint, Float, Integer, var
from dspex.testing import ScriptedModel


class Draft(dspex.Module):
    signature = "question -> answer"

    def __init__(self):
        self.think = dspex.Predict("question -> plan")
        self.write = dspex.Predict("question, plan -> answer")

    async def forward(self, question):
        plan = await self.think.acall(question=question)
        return await self.write.acall(question=question, plan=plan.plan)


def _asked(module, **inputs):
    model = ScriptedModel("[[ ## answer ## ]]\nx\n[[ ## plan ## ]]\ny")
    with dspex.context(model=model):
        asyncio.run(module.acall(**inputs))
    return model.requests


def test_variable_declared_in_line_has_its_default_and_takes_another_value():
    module = dspex.Predict("question -> answer", temperature=Float(0, 1.5, default=0.25), adapter=OneOf("chat", "json"))
    assert _asked(module, question="?")[0].temperature == 0.25
    assert {"self.temperature", "self.adapter", "self.demos"} <= set(module.variables())
    changed = module.assign({"self.temperature": 1.0, "self.adapter": "json"})
    assert changed.adapter.name == "json"
    assert changed.settings["temperature"] == 1.0
    assert changed.assign({"self.instructions": "Do."}).settings["temperature"] == 1.0
    with pytest.raises(VariableError, match=r"a number from 0 to 1\.5"):
        module.assign({"self.temperature": 2.0})


def test_program_as_data_keeps_variables_and_values():
    module = dspex.Predict("question -> answer", temperature=Float(0, 1.5, default=0.25)).assign(
        {"self.temperature": 1.0, "self.demos": [{"question": "a", "answer": "b"}]}
    )
    program = dspex.Program.from_json(module.to_program().to_json())
    again = dspex.build(program)
    assert again.settings == {"temperature": 1.0}
    assert again.demos == [{"question": "a", "answer": "b"}]
    assert again.variables().to_dict() == module.variables().to_dict()
    assert again.to_program().assignment == program.assignment
    assert dspex.build(program.assign({"self.temperature": 0.5})).settings == {"temperature": 0.5}


def test_shared_variable_sets_all_its_places_each_through_its_binding():
    module = Draft().with_variables(
        Float(
            0,
            1,
            name="heat",
            paths=("think.temperature", "write.temperature"),
            bindings={"write.temperature": var("heat") / 2},
        ),
        Integer(1, 4, name="size", default=2),
        Composite(var("size") * 100, name="room", paths=("write.max_tokens",)),
        Constraint(name="small and hot", test=(var("heat") <= 0.8) | (var("size") < 3), rewrite={"heat": 0.8}),
    )
    think, write = _asked(module.assign({"heat": 1.0, "size": 3}), question="?")
    assert (think.temperature, write.temperature, write.max_tokens) == (0.8, 0.4, 300)
    think, write = _asked(Draft(), question="?")
    assert (think.temperature, write.temperature) == (None, None)


def test_path_from_outside_reaches_settings_and_descriptions_of_an_unmodified_program():
    module = Draft().with_variables(
        Float(0, 1, name="think.temperature"), Choice("short", "long", name="write.fields.answer.desc")
    )
    _, write = _asked(module.assign({"write.fields.answer.desc": "long"}), question="?")
    assert "`answer` (str): long" in write.messages[0].content
    with pytest.raises(DefinitionError, match="takes no variable in the slot 'warmth'"):
        Draft().with_variables(Float(0, 1, name="think.warmth"))
    with pytest.raises(DefinitionError, match="nothing at 'thin"):
        Draft().with_variables(Float(0, 1, name="heat", paths=("thin.temperature",)))


def test_choice_between_modules_makes_the_variables_of_the_others_inactive():
    hot = dspex.Predict("question -> answer", temperature=Float(0, 1, default=0.5))
    module = OneOf(dspex.Predict("question -> answer"), hot)
    assert isinstance(module, Switch)
    space = module.variables()
    assert space["self.self"].options == ("Predict", "Predict2")
    heat = "alternatives['Predict2'].temperature"
    assert heat not in space.complete({})
    assert heat in space.complete({"self.self": "Predict2"})
    assert _asked(module, question="?")[0].temperature is None
    chosen = module.assign({"self.self": "Predict2", heat: 0.75})
    assert _asked(chosen, question="?")[0].temperature == 0.75
    again = dspex.build(dspex.Program.from_dict(json.loads(chosen.to_program().to_json())))
    assert _asked(again, question="?")[0].temperature == 0.75
    with pytest.raises(DefinitionError, match="not both"):
        OneOf(dspex.Predict("a -> b"), "chat")


def test_stored_program_keeps_its_hash_through_any_number_of_round_trips():
    inner = OneOf(
        dspex.Predict("question -> answer", temperature=Float(0, 1)), dspex.ChainOfThought("question -> answer")
    )
    module = OneOf(dspex.Predict("question -> answer", top_p=Float(0.1, 1)), inner).assign({"self.self": "Switch"})
    hashes, program = [], module.to_program()
    for _ in range(4):
        hashes.append(program.content_hash)
        program = dspex.build(dspex.Program.from_json(program.to_json())).to_program()
    assert set(hashes) == {program.content_hash}
    heat = "alternatives['Switch'].alternatives['Predict'].temperature"
    assert heat in program.space.complete({})
    assert heat not in program.space.complete({"self.self": "Predict"})
