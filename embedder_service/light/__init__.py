"""The light runtime: CLIP on CPUs by OpenVINO, from a folder of ONNX files, without torch."""
