"""The device side: click, numpy, Pillow and a TFLite runtime, nothing else."""
