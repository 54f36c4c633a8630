"""The keys of the assets, for assets, jobs and sensors."""

import dagster as dg

TRANSACTIONS = dg.AssetKey("transactions")
BLOCKS = dg.AssetKey("blocks")
NETWORK_BASELINE = dg.AssetKey("network_baseline")
ADDRESS_ACTIVITY = dg.AssetKey("address_activity")
TRANSACTION_FEATURES = dg.AssetKey("transaction_features")
TRANSACTION_SCORES = dg.AssetKey("transaction_scores")
ALERTS = dg.AssetKey("alerts")
ANOMALY_MODEL = dg.AssetKey("anomaly_model")
CHAMPION_MODEL = dg.AssetKey("champion_model")
DRIFT_REPORT = dg.AssetKey("drift_report")
TRANSACTIONS_ARCHIVE = dg.AssetKey("transactions_archive")
FEATURES_ARCHIVE = dg.AssetKey("features_archive")
SCORES_ARCHIVE = dg.AssetKey("scores_archive")
BACKTESTS = dg.AssetKey("backtests")

BEFORE_SCORES = [NETWORK_BASELINE, ADDRESS_ACTIVITY, TRANSACTION_FEATURES]
"""The assets that a window's scores are computed from, in order."""
SCORES = [TRANSACTION_SCORES, ALERTS]
"""The scores, and what follows from them."""
WITH_WINDOWS = [TRANSACTIONS, *BEFORE_SCORES, *SCORES]
"""The assets with five-minute windows, in the order in which a window passes them."""
ARCHIVES = [TRANSACTIONS_ARCHIVE, FEATURES_ARCHIVE, SCORES_ARCHIVE]
"""What is archived by day."""
