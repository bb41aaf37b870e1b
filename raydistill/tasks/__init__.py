"""The tasks that come with raydistill, by name. A user's own task is YAML under conf/task."""

from raydistill.tasks.filing_events import FILING_EVENTS

TASKS = {task.name: task for task in (FILING_EVENTS,)}
