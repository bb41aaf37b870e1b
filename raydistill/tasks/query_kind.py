"""What a financial question asks for: one value, several, how many, or a calculation."""

from raydistill.fields import Choice
from raydistill.task import Task

QUERY_KIND = Task(
    name="query_kind",
    key="kinds",
    single=True,
    instruction=(
        "What does this financial question ask for? Answer with JSON only:"
        ' {"kind": "lookup"|"list"|"count"|"calculation"}. lookup: one value or passage that stands'
        " in a document; list: several of them; count: how many there are; calculation: a figure"
        " that must be worked out, such as a change, a ratio, a total or an average."
    ),
    fields=(Choice(name="kind", choices=("lookup", "list", "count", "calculation")),),
)
