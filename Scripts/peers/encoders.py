"""torchvision's ResNets in any width, with either stem and any number of channels, without a classifier."""
import warnings

import torch


def _torchvision():
    """torchvision beside a PyTorch that it was not compiled for lacks its own operators; the networks use none of them."""
    global _operators
    _operators = torch.library.Library("torchvision", "FRAGMENT")
    for signature in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
                      "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"):
        try:
            _operators.define(signature)
        except RuntimeError:
            pass  # the compiled library has it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchvision
    return torchvision


torchvision = _torchvision()
resnet = torchvision.models.resnet
LAYERS = {"resnet18": (resnet.BasicBlock, [2, 2, 2, 2]), "resnet34": (resnet.BasicBlock, [3, 4, 6, 3]),
          "resnet50": (resnet.Bottleneck, [3, 4, 6, 3]), "resnet101": (resnet.Bottleneck, [3, 4, 23, 3]),
          "resnet152": (resnet.Bottleneck, [3, 8, 36, 3])}


class ResNet(resnet.ResNet):
    """torchvision's network with 64 * width channels in its first stage; features in, features out."""

    def __init__(self, name, width=1.0, stem="imagenet", channels=3):
        torch.nn.Module.__init__(self)
        block, layers = LAYERS[name]
        planes = int(64 * width)
        self._norm_layer, self.inplanes, self.dilation, self.groups, self.base_width = torch.nn.BatchNorm2d, planes, 1, 1, 64
        small = stem == "small"
        self.conv1 = torch.nn.Conv2d(channels, planes, 3 if small else 7, 1 if small else 2, 1 if small else 3, bias=False)
        self.bn1, self.relu = torch.nn.BatchNorm2d(planes), torch.nn.ReLU(inplace=True)
        self.maxpool = torch.nn.Identity() if small else torch.nn.MaxPool2d(3, 2, 1)
        for stage, count in enumerate(layers):
            stride = 1 if stage == 0 else 2
            setattr(self, f"layer{stage + 1}", self._make_layer(block, planes << stage, count, stride))
        self.avgpool, self.fc = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Identity()
        self.features = (planes << 3) * block.expansion
