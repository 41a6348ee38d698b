"""What the machine did while a training ran: MLflow's system metrics (processor, memory, GPU if there is one)."""

from __future__ import annotations

import logging
import threading

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

SAMPLING_SECONDS = 5  # MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL overrides it
FAREWELL = 5  # seconds that the last samples may take to be written


def start_monitor(run_id: str, tracking_uri: str) -> SystemMetricsMonitor:
    """Sample in a thread of its own until `stop_monitor`; a store that fails ends the sampling, silently."""
    for room in ("mlflow.system_metrics", "mlflow.utils.autologging_utils"):
        logging.getLogger(room).setLevel(logging.CRITICAL)
    monitor = SystemMetricsMonitor(
        run_id, sampling_interval=SAMPLING_SECONDS, resume_logging=True, tracking_uri=tracking_uri
    )
    monitor.start()
    return monitor


def stop_monitor(monitor: SystemMetricsMonitor) -> None:
    """Let the monitor write what it has, for a bounded time: its store may hang."""
    thread = threading.Thread(target=monitor.finish, daemon=True)
    thread.start()
    thread.join(FAREWELL)
