"""The .tflite format: the graph, its names, its metadata and the files packed behind it."""
