"""all-MiniLM-L6-v2 in this process: its file, its tokenizer and its forward pass, all synchronous.

Only `offline_embedder` imports it. The vocabulary is that of BERT; see NOTICE.
"""

from dspex.execution.clients.minilm.encoder import Encoder
from dspex.execution.clients.minilm.onnx_file import read_weights
from dspex.execution.clients.minilm.wordpiece import WordPiece

__all__ = ["Encoder", "WordPiece", "read_weights"]
