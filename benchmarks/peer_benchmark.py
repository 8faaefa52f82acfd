"""Time to accuracy of visus beside what people could take instead: PyTorch, fastai, Keras and torchvision.

python benchmarks/peer_benchmark.py [DATA] [--target 0.93] [--with pytorch,fastai,keras] [--seeds 0,1,2]
"""

from __future__ import annotations

from peers.command import main

if __name__ == "__main__":
    main()
