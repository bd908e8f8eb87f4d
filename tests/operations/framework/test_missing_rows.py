"""The errors for rows that do not exist."""

from pathlib import Path

import pytest

from dspex import Predict
from dspex.bootstrap import Services, open_services
from dspex.errors import NotFoundError
from dspex.operations.collections.actions import create_collection, search_collection
from dspex.operations.collections.inputs import CreateCollection, SearchCollection
from dspex.operations.datasets.actions import CreateDataset, create_dataset, dataset_of
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.framework.access import Actor
from dspex.operations.programs.stored_programs import find_program, save_program
from dspex.settings import Settings


@pytest.fixture
async def services(tmp_path: Path):
    async with open_services(Settings(state_dir=tmp_path)) as services:
        await save_program(services.operations, Predict("q -> a").to_program("triage"))
        yield services


async def test_a_similar_name_is_suggested(services: Services) -> None:
    operations = services.operations
    with pytest.raises(NotFoundError, match=r"no program 'triag'\. Did you mean 'triage'\? `dspex"):
        await find_program(operations, name="triag")
    with pytest.raises(NotFoundError, match=r"Did you mean 'triage'"):
        await operations.perform(execute_program, ExecuteProgram(program="trage", inputs={"q": ""}))
    with pytest.raises(NotFoundError, match="there is no program 'nothing'; `dspex program list`"):
        await find_program(operations, name="nothing")


async def test_data_sets_and_collections_have_suggestions_too(services: Services) -> None:
    operations = services.operations
    rows = [{"q": "?"}]
    await operations.perform(create_dataset, CreateDataset(name="letters", rows=rows))
    with pytest.raises(NotFoundError, match=r"no data set 'leters'\. Did you mean 'letters'"):
        await dataset_of(operations, None, "leters")
    await operations.perform(create_collection, CreateCollection(name="handbook"))
    with pytest.raises(NotFoundError, match=r"no collection 'handbok'\. Did you mean 'handbook'"):
        await operations.perform(
            search_collection, SearchCollection(collection="handbok", query="?")
        )


async def test_names_are_suggested_only_to_those_who_may_read_them(services: Services) -> None:
    for actor in (
        Actor(name="guest", scopes=frozenset({"execute"})),
        Actor(name="other", workspace="elsewhere"),
    ):
        operations = services.operations.as_actor(actor)
        with pytest.raises(NotFoundError) as failure:
            await find_program(operations, name="triag")
        assert "triage" not in failure.value.message
