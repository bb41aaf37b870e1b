"""curve: agreement against training rows: would more labels help?"""

from raydistill import curve
from raydistill.config import job

if __name__ == "__main__":
    job("curve", curve.Config, curve.run)
