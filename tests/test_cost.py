import pytest

from raydistill.errors import SetupError
from raydistill.proof import cost
from raydistill.proof.cost import Config, MixConfig, Rates, TeacherConfig

MEASURED = Rates(
    {"prefilter": 1e-6, "glance": 0.0, "skip": 1e-3, "extract": 1e-2},
    text=200,
    prompt=800,
    answer=40,
)


def test_seconds_and_money_follow_from_rates_prices_and_the_mix():
    teacher = TeacherConfig(input_tokens_per_s=2000, output_tokens_per_s=100, usd_per_hour=0.36)
    config = Config(
        teacher=teacher, mix=MixConfig(candidates=0.1, kept=0.01), usd_per_core_hour=0.036
    )
    made = cost.account(MEASURED, config)
    # 200 tokens in at 2000/s and 10 out at 100/s: 0.2 s, for one sentence in ten
    assert made["teacher"]["seconds"] == pytest.approx(0.02)
    assert made["teacher"]["usd_per_filing"] == pytest.approx(0.02 * 10_000 * 0.36 / 3600)
    assert made["student"]["seconds"] == pytest.approx(1e-6 + 1e-4 + 1e-4)
    assert made["student"]["usd"] == pytest.approx(2.01e-4 * 0.036 / 3600)
    assert made["faster_one_core"] == pytest.approx(0.02 / 2.01e-4)
    assert made["cheaper"] == pytest.approx(1 - 2.01e-9 / 2e-6)
    saved = made["teacher"]["usd_per_filing"] - made["student"]["usd_per_filing"]
    assert made["payback_filings"] == pytest.approx(100 / saved)


def test_a_vendors_prices_beat_hours():
    teacher = TeacherConfig(usd_per_million_input=1.0, usd_per_million_output=10.0, reads_all=True)
    made = cost.account(MEASURED, Config(teacher=teacher))
    assert made["teacher"]["usd"] == pytest.approx((200 * 1 + 10 * 10) / 1e6)


def test_a_student_that_costs_more_never_pays_back():
    made = cost.account(MEASURED, Config(usd_per_core_hour=1e6))
    assert made["payback_filings"] is None
    quality = {"value": 0.97, "low": 0.96, "high": 0.98}
    kept = {one["promise"]: one["kept"] for one in cost.promises(made, quality)}
    assert kept["90% cheaper"] is False
    assert kept["95%+ of the teacher's quality"] is True


def test_a_mix_that_grows_on_the_way_is_refused():
    with pytest.raises(SetupError, match="kept <= candidates"):
        MixConfig(candidates=0.01, kept=0.1)
