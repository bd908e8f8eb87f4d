"""A resource of a user's own, from one short file: table, GraphQL, REST, audit trail."""

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.routing import Route

from dspex.bootstrap import domain_of, open_services
from dspex.errors import (
    ConfigurationError,
    ConflictError,
    DefinitionError,
    ForbiddenError,
    SchemaError,
)
from dspex.execution.modules import CodeRoot
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.framework.access import Actor
from dspex.operations.framework.policies import OWN_WORKSPACE, AccessPolicy
from dspex.operations.framework.resource import Calculation, Resource
from dspex.operations.framework.store import Insert, Query
from dspex.operations.programs.actions import ProgramRef, create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.storage import Database, ensure_tables, migrate
from dspex.settings import Settings
from dspex.surfaces.api import application
from dspex.surfaces.api.graphql import (
    Engine,
    GraphQLContext,
    GraphQLRequest,
    core_schema,
    make_schema,
)

if TYPE_CHECKING:
    from dspex.operations.framework.domain import Domain

FOLDER = Path(__file__).parents[2] / "examples" / "own_resource"
OPEN = "mutation($input: OpenTicketInput!) { openTicket(input: $input) { id title status } }"
LIST = "{ tickets(first: 5) { edges { node { title status hoursOpen execution { id } } } } }"


@pytest.fixture
def tickets() -> Iterator[Any]:
    """The module of the example."""
    CodeRoot(FOLDER).load("tickets:DOMAIN")
    yield importlib.import_module("tickets")
    sys.path.remove(str(FOLDER))
    del sys.modules["tickets"]


def actions_of(tickets: Any) -> list[Any]:
    """Return the actions that open and close a ticket."""
    actions = {action.name: action for action in tickets.DOMAIN.actions}
    return [actions["open_ticket"], actions["close_ticket"]]


def test_the_example_is_short() -> None:
    assert len((FOLDER / "tickets.py").read_text().splitlines()) <= 80


async def test_one_file_becomes_a_table_graphql_rest_and_an_audit_trail(
    on_each_database: Settings, tickets: Any
) -> None:
    settings = replace(on_each_database, domain="tickets:DOMAIN")
    code = CodeRoot(FOLDER)
    domain = domain_of(settings, code)
    engine = Engine(core_schema(make_schema(domain)))

    # the table is made at the first start, and compared at the second
    for title in ("one", "two"):
        async with open_services(settings, code=code) as services:
            request = GraphQLRequest(OPEN, {"input": {"title": title}})
            result = await engine.run(request, GraphQLContext(services.operations))
            assert result["data"]["openTicket"] == {
                "id": result["data"]["openTicket"]["id"],
                "title": title,
                "status": "OPEN",
            }
    async with open_services(settings, code=code) as services:
        operations = services.operations
        rows = await operations.list(tickets.TICKET, Query())
        close = next(action for action in domain.actions if action.name == "close_ticket")
        await operations.perform(close, tickets.CloseTicket(id=rows[1].id))
        with pytest.raises(ConflictError, match="close needs it to be open or answered"):
            await operations.perform(close, tickets.CloseTicket(id=rows[1].id))
        listed = await engine.run(GraphQLRequest(LIST, {}), GraphQLContext(operations))
        assert [edge["node"] for edge in listed["data"]["tickets"]["edges"]] == [
            {"title": "two", "status": "OPEN", "hoursOpen": None, "execution": None},
            {
                "title": "one",
                "status": "CLOSED",
                "hoursOpen": pytest.approx(0, abs=0.1),
                "execution": None,
            },
        ]
        trail = await operations.list(DOMAIN["audit_entry"], Query(where={"resource": "ticket"}))
        assert [entry.action for entry in trail] == [
            "close_ticket",
            "open_ticket",
            "open_ticket",
        ]
        assert trail[0].before["status"] == "open"
    paths = {
        route.path
        for route in application(lambda: open_services(settings), domain=domain).routes
        if isinstance(route, Route)
    }
    assert {
        "/v1/tickets",
        "/v1/tickets/{id}",
        "/v1/actions/open_ticket",
        "/v1/actions/close_ticket",
    } <= paths


async def test_a_policy_keeps_rows_from_who_they_are_not_for(
    on_each_database: Settings, tickets: Any
) -> None:
    """On actions a row is refused before anything is written.

    On a resource, no page, count or filter brings it up.
    """
    policies = (OWN_WORKSPACE, tickets.THEIRS)
    private = replace(tickets.TICKET, policies=policies)
    refused = "close_ticket is for who opened the ticket, and admins"

    async with open_services(
        replace(on_each_database, domain="tickets:DOMAIN"), code=CodeRoot(FOLDER)
    ) as services:
        open_, close = actions_of(tickets)
        ann, bob = [
            services.operations.as_actor(Actor(name=name, scopes=frozenset({"read", "write"})))
            for name in ("ann", "bob")
        ]
        result = await ann.perform(open_, tickets.OpenTicket(title="hers"))
        with pytest.raises(ForbiddenError, match=refused):
            await bob.perform(close, tickets.CloseTicket(id=result.id))
        assert (await ann.list(tickets.TICKET, Query()))[0].status == "open"
        for who, count in ((ann, 1), (bob, 0), (services.operations, 1)):
            assert len(await who.list(private, Query())) == count
            for where in ({}, {"opened_by": "ann"}, {"opened_by": ("ann", "bob")}):
                assert await who.count(private, where) == count
        await ann.perform(close, tickets.CloseTicket(id=result.id))


async def test_an_execution_to_which_a_row_refers_outlives_those_that_are_due(
    on_each_database: Settings, tickets: Any
) -> None:
    settings = replace(on_each_database, domain="tickets:DOMAIN", keep_count=1)
    async with open_services(settings, code=CodeRoot(FOLDER)) as services:
        operations = services.operations
        await create_program(
            operations, CreateProgram(name="qa", signature="q -> a", backend="mock")
        )
        request = ExecuteProgram(program="qa", inputs={"q": "?"})
        first, _, last = [await execute_program(operations, request) for _ in range(3)]
        row = tickets.Ticket(
            **operations.new_row(), title="kept", opened_by="ann", execution_id=first.id
        )
        await operations.store.write(Insert(row))
        assert await services.retention.tick() == 1
        rows = await operations.list(DOMAIN["execution"], Query())
        assert [execution.id for execution in rows] == [last.id, first.id]


async def test_a_program_is_not_deleted_while_a_row_refers_to_its_execution(
    on_each_database: Settings, tickets: Any
) -> None:
    settings = replace(on_each_database, domain="tickets:DOMAIN")
    async with open_services(settings, code=CodeRoot(FOLDER)) as services:
        operations = services.operations
        await create_program(
            operations, CreateProgram(name="qa", signature="q -> a", backend="mock")
        )
        execution = await execute_program(
            operations, ExecuteProgram(program="qa", inputs={"q": "?"})
        )
        row = tickets.Ticket(
            **operations.new_row(), title="kept", opened_by="ann", execution_id=execution.id
        )
        await operations.store.write(Insert(row))
        delete = next(action for action in DOMAIN.actions if action.name == "delete_program")
        with pytest.raises(
            ConflictError, match=f"the ticket {row.id} refers to it by execution_id"
        ):
            await operations.perform(delete, ProgramRef(name="qa"))
        assert await operations.count(DOMAIN["execution"], {}) == 1


async def test_a_policy_may_judge_actors_and_single_changes(
    on_each_database: Settings, tickets: Any
) -> None:
    cleared = AccessPolicy(name="cleared people", admits=lambda actor: actor.name != "eve")
    polite = AccessPolicy(
        name="polite titles", changes=lambda _actor, row: row.title.endswith("please")
    )
    action = replace(actions_of(tickets)[0], policies=(cleared, polite))
    assert action.terms == "Needs the scope write; for cleared people; for polite titles."

    async with open_services(
        replace(on_each_database, domain="tickets:DOMAIN"), code=CodeRoot(FOLDER)
    ) as services:
        eve = services.operations.as_actor(Actor(name="eve"))
        with pytest.raises(ForbiddenError, match="open_ticket is for cleared people"):
            await eve.perform(action, tickets.OpenTicket(title="help, please"))
        with pytest.raises(ForbiddenError, match="reading tickets is for cleared people"):
            await eve.list(replace(tickets.TICKET, policies=(cleared,)), Query())
        with pytest.raises(ForbiddenError, match="open_ticket is for polite titles"):
            await services.operations.perform(action, tickets.OpenTicket(title="help"))
        await services.operations.perform(action, tickets.OpenTicket(title="help, please"))
        assert [row.title for row in await eve.list(tickets.TICKET, Query())] == ["help, please"]


def test_a_calculation_of_what_there_is_not_is_refused(tickets: Any) -> None:
    def title(row: Any) -> str:
        return str(row.title)

    with pytest.raises(DefinitionError, match="has an attribute 'title'"):
        replace(tickets.TICKET, calculations=(Calculation(of=("title",), compute=title),))
    with pytest.raises(DefinitionError, match="reads 'tilte', which is not an attribute"):
        replace(
            tickets.TICKET, calculations=(Calculation(of=("tilte",), compute=tickets.hours_open),)
        )


async def test_a_changed_resource_is_refused_with_all_that_differs(
    on_each_database: Settings, tickets: Any
) -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Changed(tickets.Row):
        title: int
        status: str = "open"
        execution_id: str | None = None
        priority: int = 0

    changed = Resource(
        name="ticket", plural="tickets", entity=Changed, unique=(("workspace", "priority"),)
    )

    url = on_each_database.database_url
    on_each_database.state_dir.mkdir()
    database = (
        Database(url.reveal()) if url else Database.embedded(on_each_database.state_dir / "db")
    )
    try:
        await migrate(database)
        await ensure_tables(database, tickets.DOMAIN)
        with pytest.raises(SchemaError) as caught:
            await ensure_tables(database, DOMAIN.extended(changed))
        for part in (
            "table 'tickets' has no column 'priority' (INTEGER)",
            "'title' as TEXT, the resource has it as INTEGER",
            "has beside the resource's the index ix_tickets_status",
            "lacks the constraint uq_tickets_workspace_priority",
            "ALTER TABLE",
        ):
            assert part in caught.value.message
        await ensure_tables(database, tickets.DOMAIN)
    finally:
        await database.aclose()


def test_a_domain_of_ones_own_is_checked(tmp_path: Path, tickets: Any) -> None:
    code = CodeRoot(FOLDER)

    def named(domain: str | None) -> Settings:
        return Settings(state_dir=tmp_path, domain=domain)

    assert domain_of(named(None), None) is DOMAIN
    assert domain_of(named("tickets:DOMAIN"), code)["ticket"] is tickets.TICKET
    with pytest.raises(ConfigurationError, match="code root"):
        domain_of(named("tickets:DOMAIN"), None)
    with pytest.raises(ConfigurationError, match=r"DOMAIN.extended\(...\)"):
        domain_of(named("tickets:TICKET"), code)
    with pytest.raises(DefinitionError, match="Did you mean 'DOMAIN'"):
        domain_of(named("tickets:DOMIAN"), code)


def test_a_resource_with_a_taken_name_or_a_reference_to_nothing_is_refused(tickets: Any) -> None:
    extended: Domain = tickets.DOMAIN
    with pytest.raises(DefinitionError, match="has a 'ticket' already"):
        extended.extended(tickets.TICKET)
    with pytest.raises(DefinitionError, match="has a 'open_ticket' already"):
        extended.extended(actions=(tickets.open_ticket,))

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Sorted(tickets.Ticket):
        sort: int

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Filtered(tickets.Ticket):
        title_contains: str

    for entity, name in ((Sorted, "sort"), (Filtered, "title_contains")):
        with pytest.raises(DefinitionError, match=rf"the name ticket\.{name} is reserved"):
            DOMAIN.extended(dataclasses.replace(tickets.TICKET, entity=entity))
    lost = dataclasses.replace(
        tickets.TICKET, name="lost", plural="losts", references={"execution_id": "nobody"}
    )
    with pytest.raises(DefinitionError, match=r"lost\.execution_id refers to 'nobody'"):
        DOMAIN.extended(lost)
