"""Products with packed weights in C++, a file for each instruction set (see `kernels.h`)."""
