"""A market-data application: prices, ticks, reports and a dashboard in one process."""
