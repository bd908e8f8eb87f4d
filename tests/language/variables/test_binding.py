"""Variables of running modules.

Declared in line, bound from outside, shared, and chosen between modules.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import DefinitionError, VariableError
from dspex.execution.modules import CodeRoot
from dspex.execution.modules.strategies import strategies
from dspex.execution.modules.switch import OneOf, Switch
from dspex.language.variables import Choice, Composite, Constraint, Float, Integer, Text, var
from dspex.language.variables.presets import retriever_k, strategy
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
    module = dspex.Predict(
        "question -> answer", temperature=Float(0, 1.5, default=0.25), adapter=OneOf("chat", "json")
    )
    assert _asked(module, question="?")[0].temperature == 0.25
    assert {"self.temperature", "self.adapter", "self.demos"} <= set(module.variables())
    changed = module.assign({"self.temperature": 1.0, "self.adapter": "json"})
    assert changed.adapter is not None
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
    assert isinstance(again, dspex.Predict)
    assert again.settings == {"temperature": 1.0}
    assert again.demos == [{"question": "a", "answer": "b"}]
    assert again.variables().to_dict() == module.variables().to_dict()
    assert again.to_program().assignment == program.assignment
    cooler = dspex.build(program.assign({"self.temperature": 0.5}))
    assert isinstance(cooler, dspex.Predict)
    assert cooler.settings == {"temperature": 0.5}


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
        Constraint(
            name="small and hot",
            test=(var("heat") <= 0.8) | (var("size") < 3),
            rewrite={"heat": 0.8},
        ),
    )
    think, write = _asked(module.assign({"heat": 1.0, "size": 3}), question="?")
    assert (think.temperature, write.temperature, write.max_tokens) == (0.8, 0.4, 300)
    think, write = _asked(Draft(), question="?")
    assert (think.temperature, write.temperature) == (None, None)


def test_path_from_outside_reaches_settings_and_descriptions_of_an_unmodified_program():
    module = Draft().with_variables(
        Float(0, 1, name="think.temperature"),
        Choice("short", "long", name="write.fields.answer.desc"),
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
    switched = module.assign({"self.self": "Predict2", heat: 0.75})
    assert _asked(switched, question="?")[0].temperature == 0.75
    again = dspex.build(dspex.Program.from_dict(json.loads(switched.to_program().to_json())))
    assert _asked(again, question="?")[0].temperature == 0.75
    with pytest.raises(DefinitionError, match="not both"):
        OneOf(dspex.Predict("a -> b"), "chat")


def test_stored_program_keeps_its_hash_through_any_number_of_round_trips():
    inner = OneOf(
        dspex.Predict("question -> answer", temperature=Float(0, 1)),
        dspex.ChainOfThought("question -> answer"),
    )
    module = OneOf(dspex.Predict("question -> answer", top_p=Float(0.1, 1)), inner).assign(
        {"self.self": "Switch"}
    )
    hashes, program = [], module.to_program()
    for _ in range(4):
        hashes.append(program.content_hash)
        program = dspex.build(dspex.Program.from_json(program.to_json())).to_program()
    assert set(hashes) == {program.content_hash}
    heat = "alternatives['Switch'].alternatives['Predict'].temperature"
    assert heat in program.space.complete({})
    assert heat not in program.space.complete({"self.self": "Predict"})


class Recall(dspex.Module):
    signature = "question -> passages: list[str]"

    def __init__(self, k=1):
        self.k = k

    async def forward(self, question):
        return {"passages": [question] * self.k}


def test_retriever_k_binds_the_setting_of_any_module_and_survives_storing():
    recall = (
        Recall()
        .with_variables(retriever_k("self", highest=4, default=2))
        .assign({"self.config.k": 3})
    )
    assert len(recall(question="?").passages) == 3
    program = dspex.Program.from_json(recall.to_program().to_json())
    again = dspex.build(program, code=CodeRoot(folder=Path(__file__).parents[3]))
    assert len(again(question="?").passages) == 3
    with pytest.raises(VariableError, match=r"'self\.config\.k' takes a value like 1: int"):
        Recall().with_variables(Choice("few", "many", name="self.config.k"))
    with pytest.raises(DefinitionError, match=r"no variable in the slot 'config\.steps'"):
        dspex.ChainOfThought("a -> b").with_variables(Choice(True, False, name="self.config.steps"))


def test_strategies_choose_between_ways_of_thinking_over_one_predictor():
    module = dspex.Predict("question -> answer", temperature=Float(0, 1, default=0.5), max_tokens=9)
    switch = strategies(module, tools=[look], default="ChainOfThought")
    assert switch.variables()["self.self"].options == ("Predict", "ChainOfThought", "ReAct")
    heat = "alternatives['ChainOfThought'].predict.temperature"
    reply = "[[ ## reasoning ## ]]\nr\n[[ ## answer ## ]]\nx"
    model = ScriptedModel(reply)
    with dspex.context(model=model):
        result = switch.assign({heat: 0.75})(question="?")
    assert (result.reasoning, result.answer) == ("r", "x")
    assert (model.requests[0].temperature, model.requests[0].max_tokens) == (0.75, 9)
    narrow = switch.with_variables(strategy("self", "ReAct", "Predict"))
    assert narrow.variables()["self.self"].options == ("ReAct", "Predict")
    assert narrow.assign({}).choice == "ReAct"
    with pytest.raises(
        VariableError,
        match=r"takes the label of an alternative.*not 'Predct'. Did you mean 'Predict'",
    ):
        switch.with_variables(strategy("self", "Predct"))
    with pytest.raises(DefinitionError, match="unknown alternative 'ReAct'"):
        strategies("question -> answer", default="ReAct")


def look(planet: str) -> str:
    """Look at a planet."""
    return planet


def test_text_with_options_from_outside_survives_storing():
    options = ("Be brief.", "Be exact.")
    module = dspex.Predict("a -> b").with_variables(Text(options=options, name="self.instructions"))
    again = dspex.build(module.to_program())
    assert again.variables()["self.instructions"].options == options


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: dspex.Predict("a -> b", adapter=OneOf("chat", "jsn")),
            "one of the adapters chat, json, tools, xml.*'jsn'",
        ),
        (
            lambda: dspex.Predict("a -> b", max_tokens=Float(1, 9)),
            "max_tokens.*a whole number from 1.*declare an Integer",
        ),
        (lambda: dspex.Predict("a -> b", temperature=Float(-1, 1)), "a number from 0, not -1"),
        (
            lambda: dspex.Predict("a -> b", top_p=OneOf(0.5, "high")),
            "a number from 0 to 1, not 'high'",
        ),
        (
            lambda: dspex.Predict("a -> b", max_tokens=1.5),
            "`max_tokens` of Predict takes a whole number",
        ),
        (lambda: dspex.Predict("a -> b", stop=3), "`stop` of Predict takes a list of texts"),
        (
            lambda: Draft().with_variables(
                Integer(
                    1,
                    4,
                    name="n",
                    paths=("think.max_tokens",),
                    bindings={"think.max_tokens": var("n") / 2},
                )
            ),
            "variable 'n': 'think.max_tokens' takes a whole number from 1, not 0.5",
        ),
        (
            lambda: dspex.Predict("question -> b", demos=[{"foo": 1}]),
            r"fields of the signature \(question, b\), not",
        ),
        (
            lambda: dspex.Predict("question -> b").assign({"self.demos": [{"quest": 1}]}),
            "'self.demos' takes examples.*Did you mean 'question'",
        ),
        (lambda: OneOf(dspex.Predict("a -> b"), default="x"), "unknown alternative 'x'"),
        (lambda: OneOf(dspex.Predict("a -> b"), weights=(1,)), "takes `default=`, not 'weights'"),
        (
            lambda: OneOf(dspex.Predict, dspex.ChainOfThought),
            r"For modules use OneOf\(Predict\(QA\)\)",
        ),
    ],
)
def test_value_that_its_place_does_not_take_is_refused_where_it_is_declared(make, message):
    with pytest.raises(DefinitionError, match=message):
        make()


def test_default_of_a_choice_is_its_value_until_another_is_assigned():
    plain, careful = dspex.Predict("a -> b"), dspex.ChainOfThought("a -> b")
    for default in (careful, "ChainOfThought"):
        assert OneOf(plain, careful, default=default).choice == "ChainOfThought"
    assert OneOf("a", "b", default="b").default == "b"


def test_stored_switch_names_its_alternative_under_the_key_of_earlier_versions():
    program = OneOf(
        dspex.Predict("a -> b"), dspex.ChainOfThought("a -> b"), default="ChainOfThought"
    )
    stored = program.to_program()
    assert stored.root.config == {"chosen": "ChainOfThought"}
    switch = dspex.build(stored)
    assert isinstance(switch, Switch)
    assert switch.choice == "ChainOfThought"


def test_computed_setting_is_checked_against_its_place_and_a_whole_one_is_a_whole_number():
    module = dspex.Predict("question -> answer").with_variables(
        Integer(1, 4, name="n", default=2),
        Composite(var("n") * 1.5, name="room", paths=("self.max_tokens",)),
    )
    assert type(module.assign({}).settings["max_tokens"]) is int
    with pytest.raises(
        VariableError, match=r"'self.max_tokens' takes a whole number from 1, not 1\.5.*round"
    ):
        module.assign({"n": 1})


def test_none_as_an_option_leaves_a_setting_unset():
    module = dspex.Predict("question -> answer", stop=OneOf(None, "END"), temperature=0.5)
    assert module.variables().complete({})["self.stop"] is None
    assert _asked(module.assign({}), question="?")[0].stop == ()
    assert module.assign({"self.stop": "END"}).settings["stop"] == ["END"]
    assert module.assign({"self.stop": "END"}).assign({"self.stop": None}).settings == {
        "temperature": 0.5
    }


def test_constraint_holds_for_what_assign_sets():
    module = dspex.Predict("question -> answer", temperature=Float(0, 1.5)).with_variables(
        Float(0, 1, name="h", default=0.2),
        Constraint(name="cool", test=(var("self.temperature") <= 0.5) | (var("h") > 0.5)),
        Constraint(name="calm", test=var("h") <= 0.5, rewrite={"h": 0.5}),
    )
    assert module.assign({"self.temperature": 0.5, "h": 1.0}).settings["temperature"] == 0.5
    # "cool" holds at first, by the hot `h` that "calm" then takes away
    with pytest.raises(
        VariableError, match=r"'cool' refuses the assignment: .*h=0.5.*; \{.*\} is allowed"
    ):
        module.assign({"self.temperature": 1.5, "h": 1.0})
    never = Constraint(name="never", test=var("h") > 2)
    with pytest.raises(VariableError, match="after 200 tries; 'never' refused"):
        dspex.Predict("a -> b").with_variables(Float(0, 1, name="h"), never).assign({})


def test_demonstrations_of_an_alternative_that_is_not_chosen_survive_storing():
    demos = [{"question": "a", "answer": "b"}]
    module = OneOf(
        dspex.Predict("question -> answer", demos=demos), dspex.ChainOfThought("question -> answer")
    )
    program = module.assign({"self.self": "ChainOfThought"}).to_program()
    again = dspex.build(dspex.Program.from_json(program.to_json()))
    assert again.to_program().content_hash == program.content_hash
    back: Any = again.assign({"self.self": "Predict"})
    assert back.alternatives["Predict"].demos == demos
    assert len(_asked(back, question="?")[0].messages) == 4


def test_a_program_as_data_refuses_what_its_module_refuses():
    cool = dspex.Constraint(name="cool", test=dspex.var("self.temperature") < 0.2)
    module = dspex.Predict("question -> answer").with_variables(
        dspex.Float(0, 1, name="self.temperature"), cool
    )
    program = module.to_program()
    assert program.variables() == program.space
    assert program.assign({"self.temperature": 0.1}).assignment == {"self.temperature": 0.1}
    errors = []
    for assign in (module.assign, program.assign):
        with pytest.raises(
            VariableError, match=r"'cool' refuses the assignment.* is allowed"
        ) as refused:
            assign({"self.temperature": 0.9})
        errors.append(refused.value.message)
    assert errors[0] == errors[1]
