"""A colour for each family of networks: in figures, and of their runs in MLflow, which need not load what draws."""

# Okabe & Ito's palette: told apart by the colour-blind; markers and dashes tell them apart in grey.
COLORS = {"cnn": "#009E73", "plain": "#D55E00", "residual": "#0072B2", "preact": "#CC79A7", "bottleneck": "#E69F00"}
