// expect: deleted
#include <heed/heed.hpp>

bool open(heed::RecurrentState& state, long id) { return state.begin(id).ok(); }
