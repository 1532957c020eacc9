"""Read and write .tflite files without a runtime."""
