"""The events task: what happened, to whom, how large, when, as a teacher reads it in filings."""

from raydistill.fields import Choice, Date, Integer, Span, Text
from raydistill.task import Task

FILING_EVENTS = Task(
    name="filing_events",
    key="events",
    skip=True,
    instruction=(
        "List the corporate events that this sentence of an SEC filing states, judged from the"
        " sentence alone. Answer with JSON only:"
        ' {"events": [{"event_type": snake_case past-tense verb and noun, "subject": copied from'
        ' the sentence or null, "object": copied or null, "magnitude_class":'
        ' "minor"|"moderate"|"major", "timing": "definitive"|"anticipated"|"historical",'
        ' "sentiment": "positive"|"neutral"|"negative", "materiality": "material"|"immaterial",'
        ' "confidence": 1-10, "date_confidence": 0-10, "event_date": "YYYY-MM-DD" or its stated'
        ' part or null}]}. Without an event answer {"skip": true}.'
    ),
    fields=(
        Text(name="event_type", snake=True),
        Span(name="subject"),
        Span(name="object"),
        Choice(name="magnitude_class", choices=("minor", "moderate", "major")),
        Choice(name="timing", choices=("definitive", "anticipated", "historical")),
        Choice(name="sentiment", choices=("positive", "neutral", "negative")),
        Choice(name="materiality", choices=("material", "immaterial")),
        Integer(name="confidence", low=1, high=10),
        Integer(name="date_confidence", low=0, high=10),
        Date(name="event_date"),
    ),
)
