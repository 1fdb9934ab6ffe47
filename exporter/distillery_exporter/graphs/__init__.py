"""ONNX graphs, written from a checkpoint with onnx and numpy alone; PyTorch is only the judge in the tests."""
