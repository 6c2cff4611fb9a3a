"""The TFLite interpreter, which the backends `tflite_cpu` and `edgetpu` share."""
