"""questions: the demo world's financial questions with answers, for `build task=questions`."""

from raydistill.config import job
from raydistill.demo import questions

if __name__ == "__main__":
    job("questions", questions.Config, questions.run)
