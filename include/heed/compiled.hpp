/// \file
/// Kernels that are compiled elsewhere: a unit that includes this does not compile their loops, but links them.
///
/// There is a kernel for every backend, key codec, value codec and math of the lists Backends, Codecs and Maths. A script
/// writes the headers in compiled/ from the lists (tests/lists/check.py). Every line there is a kernel.
///
/// The CMake function heed_add_kernels(name) makes a library of them. heed's own build calls its library heed::kernels.
/// A program links it and includes this header, or the one of its backend; nothing else changes.
///
/// The library must be compiled for the instruction set of the program. Version, instruction set and the libraries that
/// were found are part of every name (config/abi.hpp), so that another library is an undefined reference.
#pragma once

#include <heed/compiled/scalar.hpp>
#if HEED_HAS_EIGEN
#include <heed/compiled/eigen.hpp>
#endif
#if HEED_HAS_XSIMD
#include <heed/compiled/xsimd.hpp>
#endif
