# Install rules: headers, the package config with components, a version file and heed.pc. Nothing installed depends on
# the machine that installed it, so everything goes to share/.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(heed_config_dir "${CMAKE_INSTALL_DATADIR}/cmake/heed")

install(TARGETS heed EXPORT heedTargets)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING
  PATTERN "*.hpp")
install(EXPORT heedTargets NAMESPACE heed:: DESTINATION "${heed_config_dir}")

configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/heedConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/heedConfig.cmake" INSTALL_DESTINATION "${heed_config_dir}" PATH_VARS CMAKE_INSTALL_INCLUDEDIR
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change anything.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/heedConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES
  "${PROJECT_BINARY_DIR}/heedConfig.cmake"
  "${PROJECT_BINARY_DIR}/heedConfigVersion.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/HeedComponents.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/HeedKernels.cmake"
  DESTINATION "${heed_config_dir}")

# Relative to the .pc file's own folder, so that the prefix can be moved.
file(RELATIVE_PATH heed_pc_to_prefix "/${CMAKE_INSTALL_DATADIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" heed_pc_to_prefix "${heed_pc_to_prefix}")
configure_file("${CMAKE_CURRENT_LIST_DIR}/heed.pc.in" "${PROJECT_BINARY_DIR}/heed.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/heed.pc" DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")

install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
