// expect: ignoring return.*nodiscard
// flags: -Werror=unused-result
#include <heed/workspace.hpp>

void reserve(heed::Workspace& workspace) { workspace.reserve(1); }
