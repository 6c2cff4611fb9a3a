"""The .xml of OpenVINO's intermediate representation, and the .bin with its weights, read without a runtime."""
