"""Which methods act on a network, and what checked them: each is run, and its maps made again.

python -m var_exp.support model=resnet50 model.pretrained=false
"""

from var_exp.support.findings import Finding, support

__all__ = ["Finding", "support"]
