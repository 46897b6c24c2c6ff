// expect: no matching
#include <heed/heed.hpp>

// Braces around one id must not make it a number of tokens.
bool open(heed::KvCache<heed::Gqa, heed::F32>& cache) { return cache.begin({3087}).ok(); }
