#include "cluster/rpc/endpoint.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace weft {
namespace {

TEST(EndpointTest, ParsesHostAndPort) {
  const auto endpoint = Endpoint::Parse("127.0.0.1:29500");
  ASSERT_TRUE(endpoint.ok());
  EXPECT_EQ(endpoint->host, "127.0.0.1");
  EXPECT_EQ(endpoint->port, 29500);
  EXPECT_EQ(Endpoint::Parse("[::1]:80")->host, "::1");
}

TEST(EndpointTest, RefusesWhatIsNoEndpoint) {
  for (const char* text : {"", "host", ":80", "host:", "host:x", "host:70000", "host:1x"}) {
    EXPECT_EQ(Endpoint::Parse(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

TEST(EndpointTest, APortInUseNamesThePortAndTheRemedy) {
  const auto first = ListenControl({"127.0.0.1", 0});
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = ListenControl(first->endpoint);
  EXPECT_EQ(second.status().code(), StatusCode::kAlreadyExists);
  EXPECT_NE(second.status().message().find(std::to_string(first->endpoint.port)),
            std::string::npos);
  EXPECT_NE(second.status().message().find("--bind"), std::string::npos);
  ::close(first->fd);
}

TEST(EndpointTest, ConnectToNobodyIsUnavailable) {
  const auto listener = ListenControl({"127.0.0.1", 0});
  ASSERT_TRUE(listener.ok());
  ::close(listener->fd);
  const auto fd = ConnectControl(listener->endpoint, Clock::now() + std::chrono::seconds(2));
  EXPECT_EQ(fd.status().code(), StatusCode::kUnavailable) << fd.status();
}

}  // namespace
}  // namespace weft
