"""Time what ships against what was trained: latency, extraction rate, each with its machine."""
