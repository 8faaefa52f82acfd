"""Networks of other libraries by name: ``timm:resnet18``, ``torchvision:resnet18``, ``hf:FOLDER``. Each library is imported when a name asks for it."""
