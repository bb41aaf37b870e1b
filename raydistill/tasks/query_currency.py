"""The amounts of money that a financial question states, as a number and a currency."""

from raydistill.fields import Amount, Choice
from raydistill.task import Task
from raydistill.wording.amounts import CURRENCIES

QUERY_CURRENCY = Task(
    name="query_currency",
    key="amounts",
    instruction=(
        "List the amounts of money that this text states, in their order. Answer with JSON only:"
        ' {"amounts": [{"amount": the whole number in digits ("2 billion" is "2000000000", 12 cents'
        ' are "0.12"), "currency": its ISO 4217 code; a bare dollar is USD, a pound GBP}]}.'
        ' Where it states none: {"amounts": []}.'
    ),
    fields=(Amount(name="amount"), Choice(name="currency", choices=CURRENCIES)),
)
