"""The contract's list, its page, its words and its columns say the same, and a change of it is seen."""

import msgspec
import numpy as np
import pytest
from msgspec import structs

from tests.builders import T0, transaction
from txwatch.clock import WINDOW
from txwatch.detection.model import ContractMismatchError, Model
from txwatch.detection.reasons import feature_reason
from txwatch.detection.training import train
from txwatch.features import contract
from txwatch.features.batch import TransactionBatch
from txwatch.features.context import Context, NetworkContext
from txwatch.features.contract import FEATURE_NAMES, FEATURES, contract_fingerprint
from txwatch.features.transaction import transaction_features
from txwatch.store.schema import transaction_features as table
from txwatch.wire.transaction import UNCONFIRMED, CreatedOutput, SpentOutput, Transaction

CONTEXT = Context(
    NetworkContext(
        T0,
        version=1,
        tx_count_1h=50,
        tx_count_24h=600,
        windows_24h=288,
        kind_counts_24h=(300, 150, 60, 60, 30),
        median_fee_rate_1h=10.0,
        median_fee_rate_24h=20.0,
        median_value_sat_24h=1_000.0,
        p99_value_sat_24h=100_000.0,
    )
)

AGES = {"input_age_max_blocks", "coin_days_destroyed"}


def features(tx: Transaction, context: Context = CONTEXT) -> dict[str, float]:
    values = transaction_features(TransactionBatch.of([tx]), context)
    assert values.shape == (1, len(FEATURES))
    return dict(zip(FEATURE_NAMES, values[0].tolist(), strict=True))


def coins(*values: int, kind: str = "p2wpkh", address: str = "bc1q{}") -> list[CreatedOutput]:
    return [CreatedOutput(address.format(i), value, kind, i) for i, value in enumerate(values)]


def spent(*values: int | None, kind: str = "p2wpkh", address: str = "bc1qin{}") -> list[SpentOutput]:
    return [SpentOutput(address.format(i), value, kind, i) for i, value in enumerate(values)]


def made(inputs: list[SpentOutput], outputs: list[CreatedOutput], **changes: object) -> Transaction:
    value = sum(output.value for output in outputs)
    resolved = None if any(i.value is None for i in inputs) else sum(i.value or 0 for i in inputs)
    return transaction(
        inputs=inputs,
        outputs=outputs,
        value_sat=value,
        input_sat=resolved,
        fee_sat=None if resolved is None else resolved - value,
        input_count=len(inputs),
        output_count=len(outputs),
        **changes,
    )


def test_names_are_unique_and_the_table_has_them_in_order() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    assert [column.name for column in table.columns][-len(FEATURE_NAMES) :] == list(FEATURE_NAMES)


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_every_feature_has_words_for_people(name: str) -> None:
    assert feature_reason(name, 1.0, 99.0).text


def test_the_fingerprint_changes_with_the_version_and_with_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    before = contract_fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(contract, "CONTRACT_VERSION", contract.CONTRACT_VERSION + 1)
        assert contract_fingerprint() != before
    with monkeypatch.context() as patch:
        patch.setattr(contract, "FEATURES", FEATURES[1:] + FEATURES[:1])
        assert contract_fingerprint() != before
    assert contract_fingerprint() == before


def test_a_model_of_another_contract_refuses_to_score() -> None:
    rows = np.random.default_rng(1).random((600, len(FEATURES)))
    trained = train(rows, T0, T0 + WINDOW, alerts_per_hour=12, whale_btc=500, seed=1, min_rows=500)
    assert Model("3", trained.pipeline, trained.card).card.contract == contract_fingerprint()
    other = msgspec.structs.replace(trained.card, contract="0123456789ab")
    with pytest.raises(ContractMismatchError, match=f"0123456789ab, this program has {contract_fingerprint()}"):
        Model("3", trained.pipeline, other)


def test_a_coinjoin_in_numbers() -> None:
    tx = made(spent(1_000_500, 1_000_500, 1_000_500), coins(1_000_000, 1_000_000, 1_000_000))
    expected = {
        "value_sat": 3_000_000,
        "fee_sat": 1_500,
        "fee_share": pytest.approx(1_500 / 3_001_500),
        "outputs_per_input": 1,
        "equal_input_share": 1,
        "input_value_spread": 0,
        "equal_output_count": 3,
        "equal_output_share": 1,
        "equal_output_value_share": 1,
        "output_entropy": pytest.approx(np.log2(3)),
        "distinct_output_values": 1,
        "distinct_output_addresses": 3,
        "round_outputs": 3,
        "same_script_type": 1,
        "kind_share_24h": 0.25,
    }
    found = features(tx)
    assert {name: found[name] for name in expected} == expected


def test_values_that_differ_hide_nothing() -> None:
    found = features(made(spent(10_000, 2_000), coins(5_000, 5_000, 1_234)))
    assert found["equal_output_value_share"] == pytest.approx(10_000 / 11_234)
    assert found["input_value_spread"] == pytest.approx(0.8)
    assert features(made(spent(10_000), coins(5_000, 4_000)))["equal_output_value_share"] == 0


def test_against_the_network() -> None:
    found = features(made(spent(4_000), coins(2_000), vsize=100))
    assert found["fee_rate_over_median_1h"] == pytest.approx(2.0)
    assert found["fee_rate_over_median_24h"] == pytest.approx(1.0)
    assert found["value_over_median_24h"] == pytest.approx(2.0)
    assert found["value_over_p99_24h"] == pytest.approx(0.02)
    assert found["kind_share_24h"] == 0.5
    assert found["arrivals_1h_over_24h"] == pytest.approx(2.0)


def test_scripts_and_lock_times() -> None:
    tx = made(
        spent(5_000, kind="p2pkh") + spent(5_000, kind="p2tr"),
        [*coins(4_000, kind="p2tr"), CreatedOutput(None, 0, "op_return", 1)],
        lock_time=1_710_000_000,
    )
    found = features(tx)
    assert (found["input_legacy_share"], found["input_taproot_share"], found["output_taproot_share"]) == (0.5, 0.5, 1)
    assert (found["same_script_type"], found["op_return_outputs"], found["lock_time_kind"]) == (0, 1, 2)
    assert features(made(spent(9_000), coins(8_000), lock_time=834_000))["lock_time_kind"] == 1


def test_what_is_unknown_is_nan_and_never_zero() -> None:
    unresolved = features(made(spent(5_000, None), coins(4_000)))
    assert {name for name, value in unresolved.items() if np.isnan(value)} == {
        "fee_sat",
        "fee_rate",
        "fee_share",
        "equal_input_share",
        "input_value_spread",
        "fee_rate_over_median_1h",
        "fee_rate_over_median_24h",
        *AGES,
    }
    without_context = features(made(spent(5_000), coins(4_000)), Context(NetworkContext(T0, version=0)))
    unknown = {name for name, value in without_context.items() if np.isnan(value)}
    by_context = {feature.name for feature in FEATURES if "24h" in feature.name or "1h" in feature.name}
    assert unknown == by_context | AGES


@pytest.mark.parametrize(
    ("heights", "tip", "oldest", "coin_days"),
    [
        ([840_000 - 144], 840_000, 144, 2.0),
        ([840_000 - 144, 840_000 - 288], 840_000, 288, 6.0),
        ([840_000, UNCONFIRMED], 840_000, 0, 0.0),
        ([840_001], 840_000, 0, 0.0),  # mined since
        ([840_000, None], 840_000, np.nan, np.nan),
        ([840_000], None, np.nan, np.nan),
    ],
)
def test_coins_are_as_old_as_the_chain_has_grown_since(
    heights: list[int | None], tip: int | None, oldest: float, coin_days: float
) -> None:
    coin = spent(2 * 100_000_000)[0]
    inputs = [structs.replace(coin, n=n, height=height) for n, height in enumerate(heights)]
    found = features(structs.replace(made(inputs, coins(4_000)), tip_height=tip))
    np.testing.assert_equal(found["input_age_max_blocks"], oldest)
    np.testing.assert_equal(found["coin_days_destroyed"], coin_days)


def test_amounts_are_exact_to_the_satoshi_and_all_else_is_what_a_real_holds() -> None:
    whale = 1_000 * 100_000_000
    for value in (whale - 1, whale, whale + 1, 2_100_000_000_000_000):
        found = features(made(spent(value + 3), coins(value)))
        assert (found["value_sat"], found["moved_high_sat"], found["fee_sat"]) == (value, value, 3)
    odd = features(made(spent(10_007), coins(3_001, 5_003)))
    kinds = {feature.name: feature.type for feature in FEATURES}
    assert {name for name, kind in kinds.items() if kind == "float64"} == {n for n in kinds if "_sat" in n}
    assert all(np.float32(x) == x for name, x in odd.items() if kinds[name] == "float32" and not np.isnan(x))
    assert odd["fee_share"] == np.float32(2_003 / 10_007)


def test_an_empty_batch_has_no_rows() -> None:
    assert transaction_features(TransactionBatch.of([]), CONTEXT).shape == (0, len(FEATURES))
