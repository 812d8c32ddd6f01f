"""The dataset that `wdistill run` uses when none is named: a subset of Fashion-MNIST."""
