// expect: deleted
#include <heed/heed.hpp>

// A token id or a number of tokens? heed does not guess.
bool open(heed::KvCache<heed::Gqa, heed::F32>& cache) { return cache.begin(3087).ok(); }
