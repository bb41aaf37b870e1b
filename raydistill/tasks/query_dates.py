"""The ranges of dates that a financial question means, resolved against the day it is asked."""

from raydistill.fields import Edge
from raydistill.task import Task

QUERY_DATES = Task(
    name="query_dates",
    key="ranges",
    instruction=(
        "The text begins with the day on which it is asked. List the ranges of dates that it means,"
        " in their order, resolved against that day. Answer with JSON only:"
        ' {"ranges": [{"start": first day as "YYYY-MM-DD", "end": first day after the range}]};'
        " null on a side that is open. From A to B ends where B begins. A month or day without a"
        ' year is the latest that has begun. Where it means none: {"ranges": []}.'
    ),
    fields=(Edge(name="start"), Edge(name="end", over=True)),
)
