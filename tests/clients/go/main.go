// What an application does with go-redis, against the port in the arguments; panics at the first surprise.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func same(got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		panic(fmt.Sprintf("got %v, want %v", got, want))
	}
}

func main() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + os.Args[1]})
	must(client.FlushDB(ctx).Err())
	must(client.Set(ctx, "a", "1", time.Minute).Err())
	same(client.Get(ctx, "a").Val(), "1")
	same(client.Get(ctx, "none").Err(), redis.Nil)
	same(client.TTL(ctx, "a").Val(), time.Minute)
	_, err := client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, "b", "2", 0)
		pipe.Append(ctx, "b", "3")
		return nil
	})
	must(err)
	same(client.Get(ctx, "b").Val(), "23")
	err = client.Watch(ctx, func(tx *redis.Tx) error {
		must(client.Set(ctx, "b", "theirs", 0).Err())
		_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, "b", "ours", 0)
			return nil
		})
		return err
	}, "b")
	same(err, redis.TxFailedErr)
	for i := 0; i < 1000; i++ {
		must(client.Set(ctx, fmt.Sprint("many:", i), "v", 0).Err())
	}
	found := map[string]bool{}
	iterator := client.Scan(ctx, 0, "many:*", 7).Iterator()
	for iterator.Next(ctx) {
		found[iterator.Val()] = true
	}
	must(iterator.Err())
	same(len(found), 1000)
	subscriber := client.Subscribe(ctx, "__keyevent@0__:del")
	_, err = subscriber.Receive(ctx)
	must(err)
	must(client.Del(ctx, "many:1").Err())
	select {
	case message := <-subscriber.Channel():
		same(message.Payload, "many:1")
	case <-time.After(5 * time.Second):
		panic("no event within five seconds")
	}
	if client.Incr(ctx, "n").Err() == nil {
		panic("INCR is refused")
	}
}
