"""The TFLite interpreter, which the backends `tflite_cpu`, `edgetpu` and `tflite_delegate` share."""
