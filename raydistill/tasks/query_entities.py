"""The people, companies and places that a financial question names."""

from raydistill.fields import Choice, Span
from raydistill.task import Task

QUERY_ENTITIES = Task(
    name="query_entities",
    key="entities",
    instruction=(
        "List the people, companies (and other organisations) and places that this text names, in"
        " their order. Answer with JSON only:"
        ' {"entities": [{"name": copied from the text, "type": "person"|"company"|"place"}]}.'
        ' Where it names none: {"entities": []}.'
    ),
    fields=(
        Span(name="name", nullable=False),
        Choice(name="type", choices=("person", "company", "place")),
    ),
)
